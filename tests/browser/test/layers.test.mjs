// A publisher that sends its picture in spatial layers of one encoding: a listener of another relay gets as many of them as
// it wishes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Chromium, Firefox } from "../src/browser.mjs";
import { publishDrawing } from "../src/drawing.mjs";
import { chain } from "../src/relay.mjs";
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

/** Plays a stream without the listen page, which wishes by itself. */
function play(page, name) {
  return page.evaluate(async (name) => {
    const video = Object.assign(document.createElement("video"), { muted: true, autoplay: true, playsInline: true });
    video.style.cssText = "position: fixed; inset: 0; width: 100%; z-index: 9";
    document.body.append(video);
    const receiver = new RTCPeerConnection();
    receiver.addEventListener("track", ({ track }) => {
      video.srcObject = new MediaStream([track]);
      video.play();
    });
    receiver.addTransceiver("video", { direction: "recvonly" });
    await receiver.setLocalDescription();
    const answer = await fetch(`/whep/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: receiver.localDescription.sdp,
    });
    if (answer.status !== 201) throw new Error(await answer.text());
    await receiver.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    const seen = { video, receiver, layer: `${answer.headers.get("Location")}/layer`, longest: 0, last: undefined };
    const note = () => {
      const now = performance.now();
      if (seen.last) seen.longest = Math.max(seen.longest, now - seen.last);
      seen.last = now;
      video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
    window.seen = seen;
  }, name);
}

const wish = (page, wish) =>
  page.evaluate(async (wish) => {
    window.seen.longest = 0;
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(window.seen.layer, { method: "POST", headers, body: JSON.stringify(wish) });
    if (!answer.ok) throw new Error(await answer.text());
  }, wish);

/** What is shown, and what the browser counted of it. */
const look = (page) =>
  page.evaluate(async () => {
    const { video, receiver, longest } = window.seen;
    for (const entry of (await receiver.getStats()).values()) {
      if (entry.type !== "inbound-rtp") continue;
      const { pliCount, firCount = 0, framesDecoded, framesDropped, packetsLost, freezeCount } = entry;
      const stats = { plis: pliCount + firCount, frames: framesDecoded, framesDropped, packetsLost, freezeCount };
      return { width: video.videoWidth, height: video.videoHeight, longest: Math.round(longest), ...stats };
    }
    return undefined;
  });

const shows = (page, what, width) =>
  until(`${what} is shown`, 60_000, async () => {
    const picture = await look(page);
    return picture?.width === width && picture;
  });

/** A page of the second relay that shows a picture gets as many spatial layers as it wishes. */
async function choosing(t, browser, name) {
  const page = await browser.open(relays[1].url("/"));
  t.after(() => (page.context ? page.context().close?.() : page.close()));
  await play(page, name);
  const first = await shows(page, "the whole picture", 1280);
  t.diagnostic(`at first ${JSON.stringify(first)}`);
  for (const [body, what, width] of [
    [{ maxSpatialLayerId: 0 }, "a quarter of it", 320],
    [{ maxSpatialLayerId: 1 }, "half of it", 640],
    [{ maxSpatialLayerId: 2 }, "the whole again", 1280],
    [{ maxSpatialLayerId: 1 }, "half again", 640],
    [{}, "the whole at last", 1280],
  ]) {
    await wish(page, body);
    await shows(page, what, width);
    await sleep(1_000);
    const later = await look(page);
    t.diagnostic(`${what}: ${JSON.stringify(later)}`);
    assert.equal(later.width, width, `${what} goes on`);
  }
  const last = await look(page);
  assert.ok(last.frames > first.frames + 30, `${last.frames - first.frames} frames`);
  assert.equal(last.plis, first.plis, "nothing that was left out is missed");
}

for (const [title, codec, mode] of [
  ["spatial_layers_of_vp9", "VP9", "L3T3"],
  ["spatial_layers_of_vp9_that_refer_to_each_other_in_keyframes_alone", "VP9", "L3T3_KEY"],
  ["spatial_layers_of_av1", "AV1", "L3T3"],
]) {
  test(title, async (t) => {
    const name = `${codec}-${mode}`.toLowerCase().replace("_", "-");
    const publisher = await chromium.open(relays[0].url("/"));
    t.after(() => publisher.context().close());
    await publishDrawing(publisher, name, [{ scalabilityMode: mode }], codec);
    await until("it is live", 20_000, async () => (await relays[1].stream(name)) !== undefined);
    await Promise.all([choosing(t, chromium, name), choosing(t, firefox, name)]);
  });
}
