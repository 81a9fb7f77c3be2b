import { describe, expect, it } from "vitest";
import { clock, duration, secondsUntil } from "../../src/device/time";

describe("time", () => {
  it("names the day only when the hour could be another day's", () => {
    const now = Date.parse("2026-07-04T00:30:00Z");
    const short = clock("2026-07-03T23:45:00Z", now);
    expect(short).toMatch(/^\d{1,2}:45/);
    expect(clock("2026-07-02T23:45:00Z", now)).toContain(`, ${short}`);
    expect(clock("soon", now)).toBe("");
  });

  it("counts down to one, never to none", () => {
    expect([4_001, 1_000, 1, -5_000].map((ms) => secondsUntil(ms, 0))).toEqual([5, 1, 1, 1]);
  });

  it("shows hours only once there are some", () => {
    expect([0, 247_999, 3_599_000, 36_061_000].map(duration)).toEqual(["00:00", "04:07", "59:59", "10:01:01"]);
  });
});
