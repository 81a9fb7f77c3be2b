// A publisher that sends its picture in several encodings: the relay shows each, and a listener gets a picture.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Chromium, Firefox } from "../src/browser.mjs";
import { look } from "../src/ear.mjs";
import { listen } from "../src/people.mjs";
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

/** Publishes what a drawn canvas shows, in encodings of these names and divisors of its size. */
function simulcast(page, name, encodings, codec) {
  return page.evaluate(
    async ([name, encodings, codec]) => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
      const drawing = canvas.getContext("2d");
      let frame = 0;
      window.drawn = setInterval(() => {
        frame += 1;
        drawing.fillStyle = `hsl(${frame % 360} 80% 50%)`;
        drawing.fillRect(0, 0, 1280, 720);
        drawing.fillStyle = "white";
        drawing.fillRect((frame * 7) % 1280, 100, 200, 500);
      }, 40);
      const sender = new RTCPeerConnection();
      const [track] = canvas.captureStream(25).getVideoTracks();
      const sendEncodings = encodings.map(([rid, scaleResolutionDownBy]) => ({ rid, scaleResolutionDownBy }));
      const transceiver = sender.addTransceiver(track, { direction: "sendonly", sendEncodings });
      if (codec) {
        const { codecs } = RTCRtpSender.getCapabilities("video");
        const rank = (one) => (one.mimeType === `video/${codec}` ? 0 : 1);
        transceiver.setCodecPreferences(codecs.toSorted((a, b) => rank(a) - rank(b)));
      }
      await sender.setLocalDescription();
      const answer = await fetch(`/whip/${name}`, {
        method: "POST",
        headers: { "Content-Type": "application/sdp" },
        body: sender.localDescription.sdp,
      });
      if (answer.status !== 201) throw new Error(await answer.text());
      await sender.setRemoteDescription({ type: "answer", sdp: await answer.text() });
      window.sender = sender;
    },
    [name, encodings, codec],
  );
}

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
  const listener = await chromium.open(relays[1].url(`/?stream=${name}`));
  t.after(() => listener.context().close());
  await listen(listener);
  // The best encoding is taken once it has come for four seconds.
  const best = await until("the best encoding is shown", 20_000, async () => {
    const picture = await look(listener);
    return picture?.width >= 1278 && picture;
  });
  await sleep(2_000);
  const later = await look(listener);
  t.diagnostic(`${later.width}x${later.height}, ${(later.frames - best.frames) / 2} frames/s`);
  assert.ok(later.frames > best.frames + 10, `${later.frames - best.frames} frames in two seconds`);
}

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

test("three_encodings_of_firefox_arrive_in_vp8", async (t) => {
  const publisher = await firefox.open(relays[0].url("/"));
  t.after(() => publisher.close());
  await seen(t, publisher, "firefox-vp8", [...THREE].reverse());
});
