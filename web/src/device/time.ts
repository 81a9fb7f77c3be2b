// Points in time as people read them, in their own zone and habit.

/** Further away than this, the hour alone could be another day's. */
const SAME_DAY_MS = 12 * 3_600_000;

/** `18:04`, with the day before it when that is not plain; nothing if it cannot be read. */
export function clock(at: string, now = Date.now()): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (Math.abs(now - date.getTime()) < SAME_DAY_MS) return time;
  return `${date.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })}, ${time}`;
}

/** Whole seconds until `at`, by `Date.now()`; never none. */
export const secondsUntil = (at: number, now = Date.now()): number => Math.max(Math.ceil((at - now) / 1000), 1);

/** `04:07`, with hours before it when there are some. */
export function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  return `${hours > 0 ? `${hours}:` : ""}${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}
