// What the steps of the wire do to two browsers without a relay between them: one sends the same scene to the other, and
// libwebrtc's own loop adapts it. It is printed beside the steps; nothing is wanted of it.
import { sleep } from "../../src/until.mjs";
import { concealed, freezes, heights, kbps, told } from "../figures.mjs";
import { camera, THREE } from "../films.mjs";
import { Lab } from "../lab.mjs";
import { SOUND } from "../ladder.mjs";
import { Viewer } from "../viewer.mjs";
import { DOWN, WIRE } from "../zone.mjs";
import { STEPS } from "./steps.mjs";

const SCENE = THREE.at(-1);
const MOST_KBPS = 2_100;

export async function yardstick(check, { plan = STEPS, seconds = 20 } = {}) {
  const lab = await Lab.start(["r", "l"], [{ ends: ["r", "l"], ...WIRE, rate_bps: plan[0] * 1000 }]);
  try {
    const film = camera(SCENE);
    const sender = await Viewer.launch(lab, "r", "chromium", { camera: film });
    const viewer = await Viewer.launch(lab, "l", "chromium", { camera: film });
    await Promise.all([sender.empty(), viewer.empty()]);
    const offer = await sender.evaluate(send(SCENE));
    const answer = await viewer.evaluate(receive(offer));
    await sender.evaluate(`window.peers[0].setRemoteDescription(${JSON.stringify(answer)})`);
    await viewer.connected();
    await sleep(15_000);
    await viewer.take();
    const lines = [];
    let before;
    for (const kbit of plan) {
      const from = Date.now();
      lab.tell(`rate ${DOWN} ${kbit}kbit`);
      await sleep(seconds * 500);
      await lab.queue(DOWN);
      await sleep(seconds * 500);
      const queue = await lab.queue(DOWN);
      const to = Date.now();
      const { pictures, statistics } = await viewer.take();
      const turns = heights(pictures, from, to);
      const name = `no relay ${before === undefined ? "" : `${before / 1000} → `}${kbit / 1000} Mbit/s`;
      if (before === undefined) check(`${name}: a picture`, turns.at(-1)?.height ?? 0, "any", turns.at(-1)?.height > 0);
      const frozen = freezes(pictures, from, to);
      lines.push({
        wire: name,
        turns: told(turns, from),
        pictures: pictures.filter(([at]) => at > (from + to) / 2 && at <= to).length,
        freeze: `${frozen.longest} / ${frozen.all} ms`,
        concealed: `${concealed(statistics, from, to).toFixed(2)} %`,
        queue: `${queue.p50} / ${queue.p95} ms`,
        kbps: kbps(statistics, (from + to) / 2, to),
      });
      before = kbit;
    }
    await Promise.all([sender.close(), viewer.close()]);
    return lines;
  } finally {
    await lab.stop();
  }
}

/** Without a way for candidates: the description has them all. */
const GATHERED = `
  while (peer.iceGatheringState !== "complete") await new Promise((done) => setTimeout(done, 20));
  return { type: peer.localDescription.type, sdp: peer.localDescription.sdp };`;

/** In the page of the sender: its camera and its microphone, and an offer of them with all candidates. */
const send = ({ width, height }) => `(async () => {
  const video = { width: ${width}, height: ${height}, frameRate: 30 };
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const media = await navigator.mediaDevices.getUserMedia({ video, audio });
  const peer = new RTCPeerConnection();
  for (const track of media.getTracks()) {
    const maxBitrate = track.kind === "video" ? ${MOST_KBPS * 1000} : ${SOUND * 1000};
    peer.addTransceiver(track, { direction: "sendonly", streams: [media], sendEncodings: [{ maxBitrate }] });
  }
  await peer.setLocalDescription();
  ${GATHERED}
})()`;

/** In the page of the viewer: an answer to it. */
const receive = (offer) => `(async () => {
  const peer = new RTCPeerConnection();
  peer.ontrack = ({ streams }) => (document.querySelector("video").srcObject = streams[0]);
  await peer.setRemoteDescription(${JSON.stringify(offer)});
  await peer.setLocalDescription();
  ${GATHERED}
})()`;
