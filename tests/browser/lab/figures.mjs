// What a viewer saw, as figures: which encoding when, how long it stood still, how much of the sound was made up.

/** A time for people. */
export const seconds = (ms) => (Number.isFinite(ms) ? `${(ms / 1000).toFixed(1)} s` : "never");

/** Heights in turn for people, by the seconds since `from`. */
export const told = (turns, from) =>
  turns.map(({ at, height }) => `${height || "–"}@${((at - from) / 1000).toFixed(1)}`).join(" ");

/** Longer than this between two pictures is a freeze: 150 ms more than usual at 30 a second, as libwebrtc counts. */
const FREEZE_MS = 183;

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
