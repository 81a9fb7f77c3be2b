// A browser as a publisher and as a player:
//
//     browser.mjs chromium|firefox URL PUBLISHED PLAYED…        (PUBLISHED may be -)
//
// It publishes a small camera picture from a page of the relay's origin, and plays on the relay's own listen page.
// Twice a second it prints what came of each played stream, as JSON.
import { Chromium, Firefox } from "../../browser/src/browser.mjs";
import { look } from "../../browser/src/ear.mjs";
import { listen } from "../../browser/src/people.mjs";
import { sleep, until } from "../../browser/src/until.mjs";

const [kind, url, published, ...played] = process.argv.slice(2);
const browser = await { chromium: Chromium, firefox: Firefox }[kind].launch();
const stop = () => browser.close().finally(() => process.exit(0));
process.on("SIGTERM", stop);

/** Runs in the page: WHIP by hand, so that the picture is small. The publish page would send as much as it can. */
async function publish(stream) {
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 180, frameRate: 15 } });
  const connection = new RTCPeerConnection();
  for (const track of media.getTracks()) connection.addTransceiver(track, { direction: "sendonly", streams: [media] });
  await connection.setLocalDescription(await connection.createOffer());
  const headers = { "content-type": "application/sdp" };
  const answer = await fetch(`/whip/${stream}`, { method: "POST", headers, body: connection.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`WHIP answered ${answer.status}: ${await answer.text()}`);
  await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}

const packets = (page) =>
  page.evaluate(async () => {
    let sum = 0;
    for (const entry of (await window.peers.at(-1).getStats()).values()) {
      if (entry.type === "inbound-rtp") sum += entry.packetsReceived;
    }
    return sum;
  });

try {
  if (published !== "-") {
    const page = await browser.open(`${url}/publish`);
    await page.evaluate(publish, published);
  }
  const players = [];
  for (const stream of played) {
    const isLive = async () => (await (await fetch(`${url}/api/v1/streams`)).json()).some((one) => one.name === stream);
    try {
      // The other browser may still be starting.
      await until(`${stream} is live`, 40_000, isLive, 500);
      const page = await browser.open(`${url}/?stream=${stream}`);
      await listen(page);
      players.push({ stream, page });
    } catch (error) {
      // Its line in the table stays empty; the others are played.
      console.error(error);
    }
  }
  for (;;) {
    for (const { stream, page } of players) {
      const seen = await look(page);
      const contrast = seen ? Math.round((seen.brightest - seen.darkest) / 3) : 0;
      const line = { at: Date.now() / 1000, stream, packets: await packets(page), frames: seen?.frames ?? 0, contrast };
      console.log(JSON.stringify(line));
    }
    await sleep(500);
  }
} catch (error) {
  console.error(error);
  await browser.close();
  process.exit(1);
}
