// The main job: a stage in zone A is heard and seen in zone C, two hops away, and survives what people
// do to it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { attach, counted, hear, hearInTune, look, now, silences, sounding } from "../src/ear.mjs";
import { festival } from "../src/festival.mjs";
import { goLive, listen, onAir, textOf } from "../src/people.mjs";
import { LEFT_HZ, RIGHT_HZ } from "../src/tone.mjs";
import { sleep, until } from "../src/until.mjs";

const { relays, browser } = festival("stage", "food", "camping");

async function broadcast(t, name, source = "mic") {
  const [stage, , camping] = relays;
  const publisher = await browser.open(stage.url("/publish"));
  t.after(() => publisher.context().close());
  await goLive(publisher, { source, stream: name });
  const listener = await browser.open(camping.url(`/?stream=${name}`));
  t.after(() => listener.context().close());
  const tapToLive = await listen(listener);
  await attach(listener);
  return { publisher, listener, tapToLive };
}

test("tone_of_zone_a_is_heard_at_its_frequency_two_hops_away", async (t) => {
  const { listener, tapToLive } = await broadcast(t, "tone");
  // A fake microphone may be mixed to mono: then both tones are on both sides.
  const isTone = (hz) => [LEFT_HZ, RIGHT_HZ].some((tone) => Math.abs(hz - tone) < 3);
  const heard = await hearInTune(listener, ({ left, right }) => isTone(left) && isTone(right));
  t.diagnostic(
    `tap to live ${tapToLive} ms; heard left ${heard.left} Hz, right ${heard.right} Hz at ${heard.level} dBFS`,
  );
  for (const hz of [heard.left, heard.right]) assert.ok(isTone(hz), `${hz} Hz is neither tone`);
  assert.ok(heard.level > -30 && heard.level < -6, `level ${heard.level} dBFS`);

  const stream = await relays[2].stream("tone");
  assert.equal(stream.origin_zone, "stage");
  assert.equal(stream.hops, 2);
  assert.deepEqual(stream.path, ["stage", "food", "camping"]);
  assert.equal(stream.listeners, 1);
  assert.match(await textOf(listener, ".player .chips"), /from stage, 2 hops/);
});

test("both_channels_arrive_as_they_were_published", async (t) => {
  const { listener, publisher } = await broadcast(t, "stereo");
  const mono = (await textOf(publisher, ".readout")).includes("mono");
  const isRight = ({ left, right }) => Math.abs(left - LEFT_HZ) < 3 && Math.abs(right - RIGHT_HZ) < 3;
  // On a mono source it is heard whatever it is.
  const heard = await hearInTune(listener, (heard) => mono || isRight(heard));
  t.diagnostic(`source ${mono ? "mono" : "stereo"}; heard left ${heard.left} Hz, right ${heard.right} Hz`);
  if (mono) return t.skip("this Chromium's fake microphone is mono");
  assert.ok(isRight(heard), `left ${heard.left} Hz, right ${heard.right} Hz`);
});

test("nothing_is_lost_on_a_clean_path", async (t) => {
  const { listener } = await broadcast(t, "clean");
  await sleep(8_000);
  const count = await counted(listener);
  t.diagnostic(
    `${count.packets} packets, ${count.lost} lost, ${count.nacks} asked for again, ${count.concealed} % made up`,
  );
  assert.ok(count.packets > 300);
  // Also where the publisher probes its bandwidth with empty packets: they must leave no holes.
  assert.equal(count.lost, 0);
  assert.equal(count.nacks, 0);
});

test("picture_of_zone_a_is_decoded_two_hops_away", async (t) => {
  const { listener } = await broadcast(t, "picture", "camera");
  const first = await until("a picture is shown", 15_000, () => look(listener));
  await sleep(2_000);
  const later = await look(listener);
  t.diagnostic(
    `${later.width}x${later.height}, ${(later.frames - first.frames) / 2} frames/s, light ${later.darkest} to ${later.brightest}`,
  );
  assert.ok(later.frames > first.frames + 10, `${later.frames - first.frames} frames in two seconds`);
  assert.ok(later.brightest > 100 && later.brightest - later.darkest > 60, "the drawn frame is black or empty");
  const heard = await hear(listener);
  assert.ok(heard.level > -50, "the picture has no sound");
});

test("second_listener_gets_a_picture_fast", async (t) => {
  await broadcast(t, "late", "camera");
  await sleep(2_000);
  const late = await browser.open(relays[2].url("/?stream=late"));
  t.after(() => late.context().close());
  await until("the player is there", 10_000, () => late.evaluate(() => document.querySelector("button.play") !== null));
  const start = performance.now();
  await late.click("button.play");
  await until("a picture is shown", 10_000, async () => (await look(late))?.brightest > 100, 20);
  const took = Math.round(performance.now() - start);
  t.diagnostic(`tap to picture ${took} ms`);
  assert.ok(took < 3_000, `${took} ms from tap to picture`);
});

test("publisher_reloads_and_is_heard_again_within_two_seconds", async (t) => {
  const { publisher, listener } = await broadcast(t, "reload");
  await hear(listener);
  const asked = listener.requests.filter((url) => url.includes("/whep/")).length;
  const published = () => publisher.requests.filter((url) => url.endsWith("/whip/reload")).length;
  const before = published();
  const gaps = [];
  for (let round = 0; round < 3; round++) {
    const from = await now(listener);
    await publisher.reload();
    await onAir(publisher);
    await until("heard again", 10_000, () => sounding(listener));
    await sleep(1_500);
    gaps.push(Math.max(0, ...(await silences(listener, from))));
  }
  const again = listener.requests.filter((url) => url.includes("/whep/")).length - asked;
  t.diagnostic(
    `silence at the listener over three reloads: ${gaps.join(", ")} ms; requests the listener made: ${again}`,
  );
  assert.ok(Math.max(...gaps) < 2_000, `silent for ${Math.max(...gaps)} ms`);
  assert.equal(published() - before, 3, "a reload that does not publish anew was not a reload");
  assert.equal(again, 0, "the listener had to ask again");
});

test("publisher_that_stops_and_returns_keeps_its_listeners", async (t) => {
  const { publisher, listener } = await broadcast(t, "returns");
  await hear(listener);
  await publisher.click("button.stop");
  await until("the page says so", 10_000, async () => /offline|silent/.test(await textOf(listener, ".player .status")));
  await sleep(3_000);
  await goLive(publisher, { stream: "returns" });
  const start = performance.now();
  await until("heard again", 10_000, () => sounding(listener));
  t.diagnostic(`heard again ${Math.round(performance.now() - start)} ms after going live`);
  await until("the page says live", 5_000, async () => (await textOf(listener, ".player .status")).includes("Live"));
});

test("page_that_waits_for_a_stage_plays_when_it_starts", async (t) => {
  const listener = await browser.open(relays[2].url("/?stream=later"));
  t.after(() => listener.context().close());
  await until("the player is there", 10_000, () =>
    listener.evaluate(() => document.querySelector("button.play") !== null),
  );
  await listener.click("button.play");
  await until("offline", 5_000, async () => (await textOf(listener, ".player .status")).includes("offline"));
  const publisher = await browser.open(relays[0].url("/publish"));
  t.after(() => publisher.context().close());
  await goLive(publisher, { stream: "later" });
  const start = performance.now();
  await attach(listener);
  await hear(listener);
  t.diagnostic(`heard ${Math.round(performance.now() - start)} ms after the stage went live`);
});

test("listeners_are_counted_back_to_zero", async (t) => {
  const { listener } = await broadcast(t, "count");
  await until("one listener", 5_000, async () => (await relays[2].stream("count")).listeners === 1);
  await listener.close({ runBeforeUnload: false });
  const start = performance.now();
  await until("no listener", 40_000, async () => (await relays[2].stream("count")).listeners === 0);
  t.diagnostic(`a closed page is off the list after ${Math.round(performance.now() - start)} ms`);
  assert.ok(performance.now() - start < 5_000, "DELETE on leaving did not arrive");
});

test("publish_page_says_which_zones_hear_it", async (t) => {
  const { publisher } = await broadcast(t, "zones");
  await until("camping hears it", 15_000, async () => (await textOf(publisher, ".heard")).includes("camping"));
  t.diagnostic(await textOf(publisher, ".on-air"));
});

test("ice_restart_keeps_the_session", async (t) => {
  const { listener } = await broadcast(t, "restart");
  await hear(listener);
  const from = await now(listener);
  const answers = [];
  listener.on(
    "response",
    (response) =>
      response.url().includes("/whep/") && answers.push(`${response.request().method()} ${response.status()}`),
  );
  // What a phone says when it comes back into the Wi-Fi.
  await listener.evaluate(() => window.dispatchEvent(new Event("online")));
  await until("the restart is answered", 5_000, async () => answers.length > 0);
  await sleep(3_000);
  const gaps = await silences(listener, from);
  t.diagnostic(`${answers.join(", ")}; silence ${gaps.join(", ") || "none"}`);
  assert.deepEqual(answers, ["PATCH 200"]);
  assert.ok(await sounding(listener));
});

test("listener_comes_back_by_itself_when_its_relay_was_killed", async (t) => {
  const { listener } = await broadcast(t, "killed");
  await hear(listener);
  const from = await now(listener);
  await relays[2].kill();
  await relays[2].restart();
  await until("heard again", 20_000, () => sounding(listener));
  await sleep(500);
  const gap = Math.max(0, ...(await silences(listener, from)));
  t.diagnostic(`silent for ${gap} ms, restart included`);
  assert.ok(gap < 10_000, `silent for ${gap} ms`);
});

test("stream_without_a_picture_shows_no_black_box", async (t) => {
  const { listener } = await broadcast(t, "sound-only");
  await hear(listener);
  assert.equal(await listener.evaluate(() => document.querySelector(".screen video").checkVisibility()), false);
  assert.equal(await listener.evaluate(() => document.querySelector(".lights").checkVisibility()), true);
});

test("sound_that_becomes_a_camera_is_seen_without_a_tap", async (t) => {
  const { publisher, listener } = await broadcast(t, "changes");
  await hear(listener);
  await publisher.click("button.stop");
  await goLive(publisher, { stream: "changes", source: "camera" });
  const start = performance.now();
  await until("a picture is shown", 15_000, async () => (await look(listener))?.brightest > 100);
  t.diagnostic(`seen ${Math.round(performance.now() - start)} ms after going live with a camera`);
  await until("and heard", 5_000, () => sounding(listener));
});
