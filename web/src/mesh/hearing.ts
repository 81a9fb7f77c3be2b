// How the listeners of each zone fare: what they get of the sound, and for how many losses are being mended. Pure.
import type { Mesh } from "../api/types";

export interface ZoneHearing {
  zone: string;
  listeners: number;
  /** In one line. */
  text: string;
}

/** Of the zones of which it is known, those with most listeners first. */
export function hearingOf(mesh: Mesh): ZoneHearing[] {
  const zones = new Map<string, { low: number; mid: number; high: number; mended: number }>();
  for (const { zone, hearing } of mesh.nodes) {
    if (!hearing) continue;
    const sum = zones.get(zone) ?? { low: 0, mid: 0, high: 0, mended: 0 };
    const { low, mid, high, answers, copies, repeats } = hearing;
    zones.set(zone, {
      low: sum.low + low,
      mid: sum.mid + mid,
      high: sum.high + high,
      mended: sum.mended + answers + copies + repeats,
    });
  }
  const all = [...zones].map(([zone, { low, mid, high, mended }]) => {
    const listeners = low + mid + high;
    return { zone, listeners, text: line({ low, mid, high, mended, listeners }) };
  });
  return all.sort((a, b) => b.listeners - a.listeners || a.zone.localeCompare(b.zone));
}

function line({ low, mid, high, mended, listeners }: Record<"low" | "mid" | "high" | "mended" | "listeners", number>) {
  if (listeners === 0) return "nobody listens";
  const less = [share(mid, listeners, "at 64k"), share(low, listeners, "at 24k")].filter((part) => part !== undefined);
  const full = less.length === 0 ? "all get the whole sound" : share(high, listeners, "get the whole sound");
  return [full, ...less, share(mended, listeners, "with losses that are mended")]
    .filter((part) => part !== undefined)
    .join(" · ");
}

/** `12 % at 64k`; undefined for nobody. */
function share(count: number, of: number, what: string): string | undefined {
  if (count === 0) return undefined;
  const percent = Math.round((count / of) * 100);
  const said = percent === 0 ? "under 1" : percent === 100 && count < of ? "over 99" : String(percent);
  return `${said}\u00a0% ${what}`;
}
