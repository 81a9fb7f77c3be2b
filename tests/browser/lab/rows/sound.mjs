// The sound alone: how much of it a browser makes up where the wire loses, and where it carries next to nothing.
import { sleep } from "../../src/until.mjs";
import { grown, seconds as inSeconds, longestMadeUp, madeUp, richer, soundKbps, stored } from "../figures.mjs";
import { THREE } from "../films.mjs";
import { counter, MUSIC } from "../relay.mjs";
import { DOWN, watching } from "../zone.mjs";

/** Losses, and how much may be made up of what is heard then, in percent. */
export const LOSSES = [
  { name: "0 % lost", loss: "0%" },
  { name: "2 % lost", loss: "2%", most: { chromium: 0.2, firefox: 0.5 } },
  { name: "5 % lost", loss: "5%", most: { chromium: 0.5, firefox: 1 } },
  { name: "10 % lost", loss: "10%", most: { chromium: 1.5, firefox: 2.5 } },
  { name: "20 % lost", loss: "20%", most: { chromium: 4, firefox: 6 } },
  { name: "5 % lost in bursts of 3", loss: "5% burst 3", most: { chromium: 1, firefox: 2 } },
];
/** The wire has room: what is lost is no sign of too much. */
export const WIDE = 3_000;
/** kbit/s of a wire, and how much may be made up there, in percent. */
const NARROW = [
  { kbit: 60, most: 1 },
  { kbit: 40, most: 3 },
];
/** So long after a loss begins it has to be mended. */
export const MENDED_MS = 10_000;
/** Until a session stands and plays. */
const PLAYS_MS = 6_000;
/** The relay makes rungs however busy the machine is. */
const flags = ["--ladder", "true"];
/** What the rungs have at most, in kbit/s: the middle of one and the next. */
const ABOVE_LOW = 44;

/** A stage of sound alone, and a session of its own for each loss. */
export async function soundLoss(check, { browser = "chromium", losses = LOSSES, seconds = 30 } = {}) {
  const wire = { rate_bps: WIDE * 1000 };
  return watching({ browser, encodings: [], sound: MUSIC, wire, flags }, async (zone, viewer) => {
    const repeats = () => counter(zone.lab, "r", "relay_repeat_total");
    const lines = [];
    for (const [turn, { name, loss, most }] of losses.entries()) {
      if (turn > 0) {
        await viewer.press();
        zone.lab.tell(`loss ${DOWN} 0%`);
        await sleep(1_000);
        await viewer.press();
      }
      await sleep(PLAYS_MS);
      zone.lab.tell(`loss ${DOWN} ${loss}`);
      const begin = Date.now();
      await sleep(MENDED_MS);
      const before = await repeats();
      const from = Date.now();
      await sleep(seconds * 1000);
      const to = Date.now();
      const again = (await repeats()) - before;
      const { statistics } = await viewer.take();
      const what = `${browser}, ${name}`;
      const made = madeUp(statistics, from, to);
      const packets = grown(statistics, "audio", from, to);
      check(`${what}: sound comes`, packets, "1000 packets", packets > 1_000, { fact: true });
      if (most) check(`${what}: concealed`, percent(made), `${most[browser]} %`, made <= most[browser]);
      else check(`${what}: packets sent twice`, again, "0", again === 0, { fact: true });
      lines.push({
        wire: what,
        asked: most ? `${most[browser]} %` : "nothing twice",
        concealed: percent(made),
        "first 10 s": percent(madeUp(statistics, begin, from)),
        longest: `${longestMadeUp(statistics, from, to)} ms`,
        "sent again": again,
        "asked for": grown(statistics, "audioAsked", from, to),
        "never came": percent((100 * grown(statistics, "audioLost", from, to)) / Math.max(packets, 1)),
        stored: `${stored(statistics, from, to)} ms`,
        kbps: soundKbps(statistics, from, to),
      });
    }
    return lines;
  });
}

/** A wire without room for a picture, and hardly any for sound: somebody joins there. */
export async function soundNarrow(check, { browser = "chromium", wires = NARROW, seconds = 60 } = {}) {
  const wire = { rate_bps: WIDE * 1000 };
  return watching({ browser, encodings: THREE, sound: MUSIC, wire, flags }, async (zone, viewer) => {
    const lines = [];
    for (const { kbit, most } of wires) {
      // The page itself comes on the wide wire: on the narrow one its files would be what is measured.
      await viewer.press();
      await sleep(1_000);
      zone.lab.tell(`rate ${DOWN} ${kbit}kbit`);
      await viewer.press();
      const begin = Date.now();
      await sleep(MENDED_MS);
      const from = Date.now();
      const queue = await zone.queue(seconds * 1000);
      const to = Date.now();
      const { statistics } = await viewer.take();
      const what = `${browser} joins on ${kbit} kbit/s`;
      lines.push(narrow(check, { what, most, rung: "low", begin, from, to, queue, statistics }));
    }
    return lines;
  });
}
/** kbit/s of the wire. */
export const SOUND_STEPS = [300, 60, 40, 60, 300];

/** The wire gets narrow and wide again while somebody listens. */
export async function soundSteps(check, { browser = "chromium", plan = SOUND_STEPS, seconds = 20 } = {}) {
  const wire = { rate_bps: plan[0] * 1000 };
  return watching({ browser, encodings: THREE, sound: MUSIC, wire, flags }, async (zone, viewer) => {
    await sleep(20_000);
    await viewer.take();
    const lines = [];
    let before;
    for (const kbit of plan) {
      const begin = Date.now();
      zone.lab.tell(`rate ${DOWN} ${kbit}kbit`);
      await sleep(seconds * 500);
      const from = Date.now();
      const queue = await zone.queue(seconds * 500);
      const to = Date.now();
      const { statistics } = await viewer.take();
      const what = `${browser} ${before === undefined ? "" : `${before} → `}${kbit} kbit/s`;
      const rung = kbit < 100 ? "low" : before === undefined ? undefined : "higher";
      lines.push(narrow(check, { what, most: 1, rung, begin, from, to, queue, statistics, whole: true }));
      before = kbit;
    }
    return lines;
  });
}

/** A line of a narrow wire. With `whole` what is made up counts from `begin` on, else from `from` on. */
function narrow(check, { what, most, rung, begin, from, to, queue, statistics, whole = false }) {
  const since = whole ? begin : from;
  const made = madeUp(statistics, since, to);
  const pause = longestMadeUp(statistics, since, to);
  const rate = soundKbps(statistics, from, to);
  const up = rung === "higher" ? richer(statistics, ABOVE_LOW, begin, to) : undefined;
  check(`${what}: sound comes`, rate, "any", rate > 0, { fact: true });
  check(`${what}: concealed`, percent(made), `${most} %`, made < most);
  check(`${what}: longest pause`, `${pause} ms`, "60 ms", pause <= 60);
  if (rung === "low") check(`${what}: kbit/s of the sound`, rate, ABOVE_LOW, rate < ABOVE_LOW);
  if (rung === "higher") check(`${what}: a higher rung`, inSeconds(up), "10 s", up !== undefined && up <= 10_000);
  check(`${what}: queue p95`, `${queue.p95} ms`, "60 ms", queue.p95 < 60);
  return {
    wire: what,
    asked: `${most} %`,
    concealed: percent(made),
    "first 10 s": percent(madeUp(statistics, begin, from)),
    longest: `${pause} ms`,
    "higher rung": rung === "higher" ? inSeconds(up) : "",
    queue: `${queue.p50} / ${queue.p95} ms`,
    stored: `${stored(statistics, from, to)} ms`,
    kbps: rate,
  };
}

const percent = (share) => `${share.toFixed(2)} %`;
