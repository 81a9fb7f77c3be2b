// Listens where a person's ear would be: to the stream of the page's audio element, through WebAudio.
// Looks where the eye would be: at a drawn frame of the video element.
import { until } from "./until.mjs";

/** Puts an ear on the page; it follows the element when its track is replaced. */
export async function attach(page) {
  await page.evaluate(async () => {
    const audio = document.querySelector("audio");
    const context = new AudioContext({ sampleRate: 48_000 });
    await context.resume();
    const ear = { context, track: undefined, source: undefined, samples: [] };
    const splitter = context.createChannelSplitter(2);
    ear.analysers = [0, 1].map((channel) => {
      const analyser = new AnalyserNode(context, { fftSize: 16_384, smoothingTimeConstant: 0 });
      splitter.connect(analyser, channel);
      return analyser;
    });
    // Short, for the gaps: 1024 samples are 21 ms.
    ear.quick = new AnalyserNode(context, { fftSize: 1_024 });
    ear.follow = () => {
      const track = audio.srcObject?.getAudioTracks()[0];
      if (!track || track === ear.track) return;
      ear.source?.disconnect();
      ear.track = track;
      ear.source = context.createMediaStreamSource(new MediaStream([track]));
      ear.source.connect(splitter);
      ear.source.connect(ear.quick);
    };
    ear.peak = (analyser) => {
      const bins = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(bins);
      let at = 1;
      for (let i = 2; i < bins.length - 1; i++) if (bins[i] > bins[at]) at = i;
      // A parabola through the three highest bins gives the frequency to well under a bin.
      const [a, b, c] = [bins[at - 1], bins[at], bins[at + 1]];
      const shift = Number.isFinite(a + b + c) && a - 2 * b + c !== 0 ? (a - c) / (2 * (a - 2 * b + c)) : 0;
      return { hz: ((at + shift) * context.sampleRate) / analyser.fftSize, db: b };
    };
    ear.level = () => {
      const wave = new Float32Array(ear.quick.fftSize);
      ear.quick.getFloatTimeDomainData(wave);
      const power = wave.reduce((sum, sample) => sum + sample * sample, 0) / wave.length;
      return power > 0 ? 10 * Math.log10(power) : -120;
    };
    ear.follow();
    ear.timer = setInterval(() => {
      ear.follow();
      ear.samples.push([performance.now(), ear.level()]);
      if (ear.samples.length > 4_000) ear.samples.shift();
    }, 25);
    window.ear = ear;
  });
}

/** The loudest frequency of each channel and the level, once there is something to hear. */
export async function hear(page, ms = 15_000) {
  await until("something is heard", ms, () =>
    page.evaluate(() => window.ear.samples.slice(-8).every(([, db]) => db > -50) && window.ear.samples.length > 20),
  );
  const measure = async () => {
    await page.evaluate(() => new Promise((done) => setTimeout(done, 600)));
    return page.evaluate(() => {
      const [left, right] = window.ear.analysers.map(window.ear.peak);
      return {
        left: Math.round(left.hz * 10) / 10,
        right: Math.round(right.hz * 10) / 10,
        level: Math.round(window.ear.level() * 10) / 10,
      };
    });
  };
  // A browser that gets no time from a busy machine stretches what it plays: two measurements have to agree.
  let last = await measure();
  for (let tries = 0; tries < 10; tries++) {
    const next = await measure();
    if (Math.abs(next.left - last.left) < 2 && Math.abs(next.right - last.right) < 2) return next;
    last = next;
  }
  return last;
}

/**
 * {@link hear}, once what is heard is in tune: a browser that was late plays a little faster until it has caught up
 * with the sender, and so a little higher. What is still out of tune after `ms` is given as it is heard then.
 */
export async function hearInTune(page, inTune, ms = 20_000) {
  const end = performance.now() + ms;
  for (;;) {
    const heard = await hear(page);
    if (inTune(heard) || performance.now() > end) return heard;
  }
}

/** The page's clock, for {@link silences}. */
export const now = (page) => page.evaluate(() => performance.now());

/**
 * Stretches without the tone since `from` (page's clock), in milliseconds: between the sounds around each.
 * Below -30 dBFS it is gone; a browser first fades out what it makes up for missing packets.
 */
export function silences(page, from) {
  return page.evaluate((from) => {
    const out = [];
    let loud = from;
    for (const [at, db] of window.ear.samples.filter(([at]) => at >= from)) {
      if (db <= -30) continue;
      if (at - loud > 100) out.push(Math.round(at - loud));
      loud = at;
    }
    const last = window.ear.samples.at(-1)?.[0] ?? from;
    if (last - loud > 100) out.push(Math.round(last - loud));
    return out;
  }, from);
}

/** Whether there is sound right now. */
export const sounding = (page) => page.evaluate(() => window.ear.samples.slice(-4).every(([, db]) => db > -50));

/** What the browser counted of the sound since it joined. */
export function counted(page) {
  return page.evaluate(async () => {
    for (const entry of (await window.peers.at(-1).getStats()).values()) {
      if (entry.type !== "inbound-rtp" || entry.kind !== "audio") continue;
      const concealed = (entry.concealedSamples ?? 0) - (entry.silentConcealedSamples ?? 0);
      return {
        packets: entry.packetsReceived,
        lost: entry.packetsLost,
        nacks: entry.nackCount ?? 0,
        concealed: Math.round((1_000 * concealed) / (entry.totalSamplesReceived || 1)) / 10,
      };
    }
    return undefined;
  });
}

/** The picture: its size, how many frames were decoded, and how bright and varied a drawn one is. */
export function look(page) {
  return page.evaluate(async () => {
    const video = document.querySelector(".screen video");
    if (!video || video.hidden || video.videoWidth === 0) return undefined;
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 36 });
    const drawing = canvas.getContext("2d", { willReadFrequently: true });
    drawing.drawImage(video, 0, 0, 64, 36);
    const { data } = drawing.getImageData(0, 0, 64, 36);
    let brightest = 0;
    let darkest = 765;
    for (let i = 0; i < data.length; i += 4) {
      const light = data[i] + data[i + 1] + data[i + 2];
      brightest = Math.max(brightest, light);
      darkest = Math.min(darkest, light);
    }
    let frames = 0;
    for (const entry of (await window.peers.at(-1).getStats()).values()) {
      if (entry.type === "inbound-rtp" && entry.kind === "video") frames += entry.framesDecoded ?? 0;
    }
    return { width: video.videoWidth, height: video.videoHeight, frames, brightest, darkest };
  });
}
