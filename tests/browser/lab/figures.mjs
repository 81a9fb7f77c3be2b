// What a viewer saw, as figures: which encoding when, how long it stood still, how much of the sound was made up.

/** A time for people. */
export const seconds = (ms) => (Number.isFinite(ms) ? `${(ms / 1000).toFixed(1)} s` : "never");

/** Heights in turn for people, by the seconds since `from`. */
export const told = (turns, from) =>
  turns.map(({ at, height }) => `${height || "–"}@${((at - from) / 1000).toFixed(1)}`).join(" ");

/** Longer than this between two pictures is a freeze: 150 ms more than usual at 30 a second, as libwebrtc counts. */
const FREEZE_MS = 183;
/** Opus is played at 48 kHz. */
const SAMPLES_PER_MS = 48;

/** Heights in turn, with the time at which each began; `0` where nothing was shown for `gap` milliseconds. */
export function heights(pictures, from, to, gap = 1_000) {
  const out = [];
  const say = (at, height) => {
    if (out.at(-1)?.height !== height) out.push({ at, height });
  };
  let before = from;
  // What is shown at `from` counts from then on, if it has not stood still for long.
  const shown = pictures.findLast(([at]) => at < from);
  if (shown && from - shown[0] <= gap) say(from, shown[2]);
  for (const [at, , height] of pictures) {
    if (at < from) continue;
    if (at > to) break;
    if (at - before > gap) say(before, 0);
    say(at, height);
    before = at;
  }
  if (to - before > gap) say(before, 0);
  return out;
}

/** Milliseconds from `from` until this height is shown and stays. */
export function settled(turns, height, from) {
  const last = turns.findLastIndex((turn) => turn.height !== height);
  if (last === turns.length - 1) return undefined;
  return Math.max(0, (turns[last + 1]?.at ?? from) - from);
}

/** Milliseconds from `from` until this height is shown first. */
export function reached(turns, height, from) {
  const at = turns.find((turn) => turn.height === height)?.at;
  return at === undefined ? undefined : Math.max(0, at - from);
}

/** Times without a new picture: the longest, and all together, in milliseconds. */
export function freezes(pictures, from, to) {
  let [longest, all] = [0, 0];
  const inside = pictures.filter(([at]) => at >= from && at <= to).map(([at]) => at);
  for (const [index, at] of inside.entries()) {
    if (index === 0) continue;
    const gap = at - inside[index - 1];
    if (gap <= FREEZE_MS) continue;
    longest = Math.max(longest, gap);
    all += gap;
  }
  return { longest: Math.round(longest), all: Math.round(all) };
}

/** The longest time without a new picture that ended or went on in this time, in milliseconds. */
export function longest(pictures, from, to) {
  const before = pictures.findLast(([at]) => at < from)?.[0] ?? from;
  const inside = pictures.filter(([at]) => at >= from && at <= to).map(([at]) => at);
  const all = [before, ...inside, to];
  return Math.max(...all.slice(1).map((at, index) => at - all[index]));
}

/** The statistic nearest before `at`, else the first. */
const nearest = (statistics, at) => statistics.findLast((one) => one.at <= at) ?? statistics[0] ?? {};

/** Percent of the samples of sound that the browser made up. */
export function concealed(statistics, from, to) {
  const [a, b] = [nearest(statistics, from), nearest(statistics, to)];
  const samples = (b.samples ?? 0) - (a.samples ?? 0);
  return samples > 0 ? (100 * ((b.concealed ?? 0) - (a.concealed ?? 0))) / samples : 0;
}

/** kbit/s of the picture. */
export function kbps(statistics, from, to) {
  const [a, b] = [nearest(statistics, from), nearest(statistics, to)];
  return b.at > a.at ? Math.round((((b.octets ?? 0) - (a.octets ?? 0)) * 8) / (b.at - a.at)) : 0;
}

/** How much a counter of the browser grew. */
export function grown(statistics, name, from, to) {
  return (nearest(statistics, to)[name] ?? 0) - (nearest(statistics, from)[name] ?? 0);
}

/** Percent of the samples of sound that the browser made up, those that it made silent too. */
export function madeUp(statistics, from, to) {
  const [made, samples] = ["made", "samples"].map((name) => grown(statistics, name, from, to));
  return samples > 0 ? (100 * made) / samples : 100;
}

/** kbit/s of the sound, without headers. */
export function soundKbps(statistics, from, to) {
  const [a, b] = [nearest(statistics, from), nearest(statistics, to)];
  return b.at > a.at ? Math.round((((b.audioOctets ?? 0) - (a.audioOctets ?? 0)) * 8) / (b.at - a.at)) : 0;
}

/** Milliseconds of sound between its arrival and its playing, on average. */
export function stored(statistics, from, to) {
  const [seconds, samples] = ["bufferSeconds", "bufferSamples"].map((name) => grown(statistics, name, from, to));
  return samples > 0 ? Math.round((1000 * seconds) / samples) : 0;
}

/**
 * The longest time that was made up in one piece, in milliseconds. The browser counts samples and pieces; where a reading
 * has several pieces their mean is taken, and what goes on in the next reading is added.
 */
export function longestMadeUp(statistics, from, to) {
  const inside = statistics.filter(({ at, samples }) => at >= from && at <= to && samples !== undefined);
  let [longest, piece] = [0, 0];
  for (const [index, now] of inside.entries()) {
    if (index === 0) continue;
    const made = now.made - inside[index - 1].made;
    const pieces = now.concealments - inside[index - 1].concealments;
    if (made <= 0) piece = 0;
    else piece = pieces > 0 ? made / pieces : piece + made;
    longest = Math.max(longest, piece);
  }
  return Math.round(longest / SAMPLES_PER_MS);
}

/** Milliseconds from `from` until the sound of a second is more than so many kbit/s; undefined if it never is. */
export function richer(statistics, kbit, from, to) {
  const later = statistics.filter(({ at, audioOctets }) => at >= from + 1_000 && at <= to && audioOctets !== undefined);
  const found = later.find(({ at }) => soundKbps(statistics, at - 1_000, at) > kbit);
  return found && found.at - from;
}
