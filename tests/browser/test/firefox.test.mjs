// The other engine, both ways round.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Chromium, FIREFOX_HZ, Firefox } from "../src/browser.mjs";
import { attach, hearInTune, look } from "../src/ear.mjs";
import { goLive, listen, said, say, textOf } from "../src/people.mjs";
import { chain } from "../src/relay.mjs";
import { LEFT_HZ, RIGHT_HZ } from "../src/tone.mjs";
import { sleep, until } from "../src/until.mjs";

let relays, chromium, firefox;
before(async () => {
  relays = await chain("stage", "food", "camping");
  [chromium, firefox] = await Promise.all([Chromium.launch(), Firefox.launch()]);
});
after(async () => {
  await Promise.all([chromium?.close(), firefox?.close()]);
  await Promise.all((relays ?? []).map((relay) => relay.stop()));
});

test("firefox_hears_and_sees_chromium_two_hops_away", async (t) => {
  const publisher = await chromium.open(relays[0].url("/publish"));
  t.after(() => publisher.context().close());
  await goLive(publisher, { source: "camera", stream: "from-chromium" });
  const listener = await firefox.open(relays[2].url("/?stream=from-chromium"));
  t.after(() => listener.close());
  const tapToLive = await listen(listener);
  await attach(listener);
  const isTone = (hz) => [LEFT_HZ, RIGHT_HZ].some((tone) => Math.abs(hz - tone) < tone * 0.005);
  const heard = await hearInTune(listener, ({ left, right }) => isTone(left) && isTone(right));
  const first = await until("a picture is shown", 15_000, () => look(listener));
  await sleep(2_000);
  const later = await look(listener);
  t.diagnostic(
    `tap to live ${tapToLive} ms; left ${heard.left} Hz, right ${heard.right} Hz at ${heard.level} dBFS; ${later.width}x${later.height}, ${(later.frames - first.frames) / 2} frames/s`,
  );
  // Half a percent: Firefox follows the clock of the sender by playing a little faster or slower.
  for (const hz of [heard.left, heard.right]) assert.ok(isTone(hz), `${hz} Hz is neither tone`);
  assert.ok(later.frames > first.frames + 10);
  assert.ok(later.brightest > 100 && later.brightest - later.darkest > 60, "the drawn frame is black or empty");
});

test("chromium_hears_and_sees_firefox_two_hops_away", async (t) => {
  const publisher = await firefox.open(relays[0].url("/publish"));
  t.after(() => publisher.close());
  await goLive(publisher, { source: "camera", stream: "from-firefox" });
  const listener = await chromium.open(relays[2].url("/?stream=from-firefox"));
  t.after(() => listener.context().close());
  const tapToLive = await listen(listener);
  await attach(listener);
  const isTone = (hz) => Math.abs(hz - FIREFOX_HZ) < 3;
  const heard = await hearInTune(listener, ({ left }) => isTone(left));
  await until("a picture is shown", 15_000, () => look(listener));
  t.diagnostic(`tap to live ${tapToLive} ms; heard ${heard.left} Hz at ${heard.level} dBFS`);
  assert.ok(isTone(heard.left), `${heard.left} Hz is not ${FIREFOX_HZ}`);
});

test("firefox_page_chats_and_keeps_to_the_policy", async (t) => {
  const page = await firefox.open(relays[0].url("/?stream=from-nobody"));
  t.after(() => page.close());
  await until("the room is open", 10_000, async () => (await textOf(page, ".chat header")).includes("here"));
  await say(page, "Fox", "hello <b>there</b>");
  await until("shown", 10_000, async () =>
    (await said(page)).some((one) => one.text === "hello <b>there</b>" && one.elements === 0),
  );
  assert.deepEqual(page.faults, []);
});
