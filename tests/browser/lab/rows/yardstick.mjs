// What the steps of the wire do to two browsers without a relay between them: one sends the same scene to the other, and
// libwebrtc's own loop adapts it. It is printed beside the steps; nothing is wanted of it.
import { sleep } from "../../src/until.mjs";
import { concealed, freezes, heights, kbps, longestMadeUp, madeUp, soundKbps, stored, told } from "../figures.mjs";
import { camera, THREE } from "../films.mjs";
import { Lab } from "../lab.mjs";
import { SOUND } from "../ladder.mjs";
import { Viewer } from "../viewer.mjs";
import { DOWN, WIRE } from "../zone.mjs";
import { LOSSES, MENDED_MS, SOUND_STEPS, WIDE } from "./sound.mjs";
import { STEPS } from "./steps.mjs";

const SCENE = THREE.at(-1);
const MOST_KBPS = 2_100;

export async function yardstick(check, { plan = STEPS, seconds = 20 } = {}) {
  return between({ rate: plan[0], picture: SCENE }, async (lab, viewer) => {
    await sleep(15_000);
    await viewer.take();
    const lines = [];
    let before;
    for (const kbit of plan) {
      const { from, to, queue, pictures, statistics } = await step(lab, viewer, kbit, seconds);
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
    return lines;
  });
}

/** The losses of the rows of sound, and nothing is wanted of it but that sound comes. */
export async function soundLossYardstick(check, { losses = LOSSES, seconds = 30 } = {}) {
  return between({ rate: WIDE }, async (lab, viewer) => {
    const lines = [];
    for (const { name, loss } of losses) {
      lab.tell(`loss ${DOWN} 0%`);
      await sleep(5_000);
      lab.tell(`loss ${DOWN} ${loss}`);
      await sleep(MENDED_MS);
      const from = Date.now();
      await sleep(seconds * 1000);
      const { statistics } = await viewer.take();
      lines.push(soundLine(check, `no relay, ${name}`, { statistics, from, to: Date.now() }));
    }
    return lines;
  });
}

/** The narrow steps of the rows of sound, with a picture that libwebrtc may make as small as it likes. */
export async function soundStepsYardstick(check, { plan = SOUND_STEPS, seconds = 20 } = {}) {
  return between({ rate: plan[0], picture: SCENE }, async (lab, viewer) => {
    await sleep(20_000);
    await viewer.take();
    const lines = [];
    let before;
    for (const kbit of plan) {
      const seen = await step(lab, viewer, kbit, seconds);
      const name = `no relay ${before === undefined ? "" : `${before} → `}${kbit} kbit/s`;
      const { p50, p95 } = seen.queue;
      lines.push({ ...soundLine(check, name, seen), queue: `${p50} / ${p95} ms` });
      before = kbit;
    }
    return lines;
  });
}

function soundLine(check, wire, { statistics, from, to }) {
  const rate = soundKbps(statistics, from, to);
  check(`${wire}: sound comes`, rate, "any", rate > 0);
  return {
    wire,
    concealed: `${madeUp(statistics, from, to).toFixed(2)} %`,
    longest: `${longestMadeUp(statistics, from, to)} ms`,
    stored: `${stored(statistics, from, to)} ms`,
    kbps: rate,
  };
}

/** The wire carries so much for a while. The queue is that of the second half. */
async function step(lab, viewer, kbit, seconds) {
  const from = Date.now();
  lab.tell(`rate ${DOWN} ${kbit}kbit`);
  await sleep(seconds * 500);
  await lab.queue(DOWN);
  await sleep(seconds * 500);
  const queue = await lab.queue(DOWN);
  return { from, to: Date.now(), queue, ...(await viewer.take()) };
}

/** One Chromium sends its microphone to another, and its camera if there is to be a picture. */
async function between({ rate, picture }, work) {
  const lab = await Lab.start(["r", "l"], [{ ends: ["r", "l"], ...WIRE, rate_bps: rate * 1000 }]);
  try {
    // With a camera its addresses are no secret.
    const film = camera(SCENE);
    const sender = await Viewer.launch(lab, "r", "chromium", { camera: film });
    const viewer = await Viewer.launch(lab, "l", "chromium", { camera: film });
    await Promise.all([sender.empty(), viewer.empty()]);
    const offer = await sender.evaluate(send(picture));
    const answer = await viewer.evaluate(receive(offer));
    await sender.evaluate(`window.peers[0].setRemoteDescription(${JSON.stringify(answer)})`);
    await viewer.connected();
    const lines = await work(lab, viewer);
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

/** In the page of the sender: its microphone, its camera if there is a picture, and an offer of them with all candidates. */
const send = (picture) => `(async () => {
  const video = ${picture ? `{ width: ${picture.width}, height: ${picture.height}, frameRate: 30 }` : "false"};
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
