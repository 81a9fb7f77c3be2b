import { describe, expect, it } from "vitest";
import { Ballistics, CLIP_LIGHT_MS, FLOOR_DB, toDb } from "../../src/webrtc/meter";

const loud = { peaks: [1, 0.5], clipped: true, channels: 2 };
const quiet = { peaks: [0, 0], clipped: false, channels: 2 };

describe("meter", () => {
  it("reads full scale as 0 dBFS and half as -6", () => {
    expect(toDb(1)).toBe(0);
    expect(toDb(0.5)).toBeCloseTo(-6.02, 2);
    expect(toDb(0)).toBe(FLOOR_DB);
  });

  it("keeps the clip light on for three seconds", () => {
    const needles = new Ballistics();
    needles.take(loud, 0);
    needles.take(quiet, 20);
    expect(needles.read(CLIP_LIGHT_MS - 1).clipping).toBe(true);
    expect(needles.read(CLIP_LIGHT_MS).clipping).toBe(false);
  });

  it("falls slowly and holds the peak", () => {
    const needles = new Ballistics();
    needles.take(loud, 0);
    needles.take(quiet, 500);
    expect(needles.read(500).db).toEqual([-10, expect.closeTo(-16.02, 2)]);
    expect(needles.read(500).hold[0]).toBe(0);
    needles.take(quiet, 2_000);
    expect(needles.read(2_000).hold[0]).toBeLessThan(0);
  });
});
