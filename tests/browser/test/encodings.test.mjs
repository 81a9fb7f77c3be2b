// A publisher that sends its picture in several encodings: the relay shows each, and a listener gets a picture. The
// publish page is one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Chromium, Firefox } from "../src/browser.mjs";
import { publishDrawing } from "../src/drawing.mjs";
import { look } from "../src/ear.mjs";
import { goLive, listen, onAir, textOf } from "../src/people.mjs";
import { chain, Relay } from "../src/relay.mjs";
import { sleep, until } from "../src/until.mjs";

let relays, chromium, firefox;
before(async () => {
  relays = await chain("stage", "food");
  [chromium, firefox] = await Promise.all([Chromium.launch(), Firefox.launch()]);
});
after(async () => {
  await Promise.all([chromium?.close(), firefox?.close()]);
  await Promise.all((relays ?? []).map((relay) => relay.stop()));
});

/** Publishes a drawing in encodings of these names and divisors of its size. */
const simulcast = (page, name, encodings, codec) =>
  publishDrawing(
    page,
    name,
    encodings.map(([rid, scaleResolutionDownBy]) => ({ rid, scaleResolutionDownBy })),
    codec,
  );

const shown = (one) => `${one.rid} ${one.width}x${one.height} ${one.frames_per_second}/s ${one.kbps} kbit/s`;

/** Three encodings from a page reach the relay, and the next relay's listener sees a picture that moves. */
async function seen(t, publisher, name, encodings, codec) {
  await simulcast(publisher, name, encodings, codec);
  const all = await until("three encodings are there", 60_000, async () => {
    const listed = (await relays[0].stream(name))?.encodings ?? [];
    return listed.length === 3 && listed.every((one) => one.width && !one.dormant && one.kbps > 0) && listed;
  });
  t.diagnostic(all.map(shown).join(", "));
  assert.deepEqual(
    all.map((one) => one.rid),
    encodings.map(([rid]) => rid),
    "in the order of the offer",
  );
  for (const [at, [, divisor]] of encodings.entries()) {
    assert.ok(Math.abs(all[at].width - 1280 / divisor) <= 2, `${all[at].rid} is ${all[at].width} wide`);
    // Repeats with which a browser probes its path are no pictures.
    assert.ok(all[at].frames_per_second <= 40, `${all[at].rid} has ${all[at].frames_per_second} frames a second`);
  }
  const listener = await chromium.open(relays[1].url(`/?stream=${name}`), LARGE);
  t.after(() => listener.context().close());
  await listen(listener);
  // Step by step: the next relay asks for a better encoding when the path to the listener has room for it.
  const best = await until("the best encoding is shown", 60_000, async () => {
    const picture = await look(listener);
    return picture?.width >= 1278 && picture;
  });
  await sleep(2_000);
  const later = await look(listener);
  t.diagnostic(`${later.width}x${later.height}, ${(later.frames - best.frames) / 2} frames/s`);
  assert.ok(later.frames > best.frames + 10, `${later.frames - best.frames} frames in two seconds`);
}

/** A page that shows a picture so large that it wishes for no less than the best. */
const LARGE = { width: 1280, height: 900, scale: 2 };

const THREE = [
  ["q", 4],
  ["h", 2],
  ["f", 1],
];

for (const codec of ["VP8", "H264"]) {
  test(`three_encodings_of_chromium_arrive_in_${codec.toLowerCase()}`, async (t) => {
    const publisher = await chromium.open(relays[0].url("/"));
    t.after(() => publisher.context().close());
    await seen(t, publisher, `chromium-${codec.toLowerCase()}`, THREE, codec);
  });
}

test("a_person_chooses_how_much_picture", async (t) => {
  const publisher = await chromium.open(relays[0].url("/"));
  t.after(() => publisher.context().close());
  await simulcast(publisher, "chosen", THREE, "VP8");
  const page = await chromium.open(relays[1].url("/?stream=chosen"), LARGE);
  t.after(() => page.context().close());
  await listen(page);
  const choose = (value) => page.click(`input[name=picture][value=${value}]`, { force: true });
  const shows = (what, width) =>
    until(what, 60_000, async () => {
      const picture = await look(page);
      return width ? Math.abs((picture?.width ?? 0) - width) <= 2 : picture === undefined;
    });
  const says = (what) => until(`it says: ${what}`, 30_000, async () => (await textOf(page, ".caption")).includes(what));
  await shows("the best encoding", 1280);
  await says("best there is");
  await choose("save");
  await shows("the smallest encoding", 320);
  await says("saving data");
  await choose("sound");
  await shows("the lights instead of a picture");
  await says("Sound only");
  const { video: decoded } = await octets(page);
  await sleep(2_000);
  const later = await octets(page);
  assert.equal(later.video, decoded, "nothing of the picture comes");
  await choose("best");
  await shows("the best encoding again", 1280);
  await says("best there is");
});

/** What came so far, by kind. */
const octets = (page) =>
  page.evaluate(async () => {
    const out = {};
    for (const entry of (await window.peers.at(-1).getStats()).values())
      if (entry.type === "inbound-rtp") out[entry.kind] = entry.bytesReceived;
    return out;
  });

test("three_encodings_of_firefox_arrive_in_vp8", async (t) => {
  const publisher = await firefox.open(relays[0].url("/"));
  t.after(() => publisher.close());
  await seen(t, publisher, "firefox-vp8", [...THREE].reverse());
});

/** What the publish page shows of each encoding, the largest first: `1280 × 720`, `1830 kbit/s`. */
const readout = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll(".encodings dd")].map((row) => [...row.children].map((cell) => cell.textContent)),
  );

/** The encodings of a camera of 1280 pixels are there, under their rids and at their sizes, and the page says so too. */
async function threeFromPage(t, page, name) {
  const all = await until("three encodings of the page are there", 60_000, async () => {
    const listed = (await relays[0].stream(name))?.encodings ?? [];
    return listed.length === 3 && listed.every((one) => one.width && !one.dormant && one.kbps > 0) && listed;
  });
  t.diagnostic(all.map(shown).join(", "));
  assert.deepEqual(
    all.map(({ rid, width }) => `${rid} ${width}`),
    ["l 320", "m 640", "h 1280"],
  );
  const rows = await until("the page shows what leaves", 10_000, async () => {
    const rows = await readout(page);
    return rows.length === 3 && rows.every(([, rate]) => Number.parseInt(rate, 10) > 0) && rows;
  });
  assert.deepEqual(
    rows.map(([size]) => size),
    ["1280 × 720", "640 × 360", "320 × 180"],
  );
}

test("publish_page_sends_a_camera_in_three_encodings_through_restart_and_reload", async (t) => {
  const page = await chromium.open(relays[0].url("/publish"));
  t.after(() => page.context().close());
  // Sound first: a camera in its place is sent as one that was there from the start.
  await goLive(page, { stream: "page" });
  assert.deepEqual(await readout(page), []);
  await page.click("button.stop");
  await goLive(page, { stream: "page", source: "camera" });
  await threeFromPage(t, page, "page");

  const answers = [];
  page.on("response", (response) => {
    if (response.url().includes("/whip/")) answers.push(`${response.request().method()} ${response.status()}`);
  });
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await until("the restart is answered", 5_000, async () => answers.length > 0);
  // What is listed is of the last second, and the page looks once a second.
  await sleep(2_500);
  await threeFromPage(t, page, "page");
  assert.deepEqual(answers, ["PATCH 200"]);

  await page.reload();
  await onAir(page);
  await threeFromPage(t, page, "page");
  assert.deepEqual(page.faults, []);
});

test("publish_page_of_firefox_sends_a_camera_in_three_encodings", async (t) => {
  const page = await firefox.open(relays[0].url("/publish"));
  t.after(() => page.close());
  await goLive(page, { stream: "firefox-page", source: "camera" });
  await threeFromPage(t, page, "firefox-page");
  assert.deepEqual(page.faults, []);
});

test("publish_page_sends_a_screen_in_two_encodings", async (t) => {
  // What Chromium shares without asking is the page itself.
  const page = await chromium.open(relays[0].url("/publish"), { width: 1280, height: 860 });
  t.after(() => page.context().close());
  await goLive(page, { stream: "screen", source: "screen" });
  const all = await until("two encodings are there", 30_000, async () => {
    const listed = (await relays[0].stream("screen"))?.encodings ?? [];
    return listed.length === 2 && listed.every((one) => one.width && !one.dormant) && listed;
  });
  t.diagnostic(all.map(shown).join(", "));
  assert.deepEqual(
    all.map(({ rid }) => rid),
    ["m", "h"],
  );
});

/** One encoding of this page is on air, and comes back the same after an ICE restart. */
async function oneFromPage(page, relay, name) {
  const methods = [];
  page.on("request", (request) => request.url().includes("/whip/") && methods.push(request.method()));
  await goLive(page, { stream: name, source: "camera" });
  const sent = () =>
    until("one encoding is there", 20_000, async () => {
      const listed = (await relay.stream(name))?.encodings ?? [];
      return listed.length === 1 && listed[0].width && !listed[0].dormant && listed;
    });
  await sent();
  await until("the page shows one", 10_000, async () => (await readout(page)).length === 1);
  assert.match(await textOf(page, ".encodings dt"), /^Picture$/);
  const before = methods.length;
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await until("ICE is restarted", 5_000, async () => methods.length > before);
  await sleep(2_000);
  await sent();
  assert.deepEqual(methods.slice(before), ["PATCH"]);
  assert.deepEqual(page.faults, []);
  return methods.slice(0, before);
}

test("publish_page_goes_on_with_one_encoding_where_simulcast_is_turned_off", async (t) => {
  const relay = await Relay.start("one", [], ["--simulcast", "false"]);
  t.after(() => relay.stop());
  const page = await chromium.open(relay.url("/publish"));
  t.after(() => page.context().close());
  assert.deepEqual(await oneFromPage(page, relay, "one"), ["POST"]);
});

test("publish_page_offers_one_encoding_to_a_relay_that_knows_no_simulcast", async (t) => {
  const page = await chromium.open(relays[0].url("/publish"));
  t.after(() => page.context().close());
  // Such a relay passes over these lines, and so does not answer them.
  await page.route(/\/whip\//, (route) => {
    const offer = route.request().method() === "POST" ? route.request().postData() : undefined;
    return route.continue(offer ? { postData: offer.replace(/a=(simulcast|rid):.*\r\n/g, "") } : {});
  });
  assert.deepEqual(await oneFromPage(page, relays[0], "older"), ["POST", "DELETE", "POST"]);
});
