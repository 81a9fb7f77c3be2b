import { describe, expect, it } from "vitest";
import { pathOf, type SoundPath, SoundPathGauge, type SoundReading } from "../../src/webrtc/sound-path";

const WHOLE: SoundReading = { kbps: 128, packets: 25, lost: 0, concealedMs: 0 };

/** Readings each half second; gives what is known after each. */
function follow(gauge: SoundPathGauge, readings: Partial<SoundReading>[]): SoundPath[] {
  return readings.map((reading, index) => gauge.take({ ...WHOLE, ...reading }, index * 500));
}
const repeated = <T>(count: number, one: T): T[] => Array.from({ length: count }, () => one);
const times = (count: number, reading: Partial<SoundReading> = {}) => repeated(count, reading);

describe("sound path", () => {
  it("is nothing to talk about while all comes", () => {
    expect(follow(new SoundPathGauge(), times(100))).toEqual(repeated(100, { mending: false, rung: undefined }));
  });

  it("mends once something was lost twice in five seconds, and until 20 s after the last loss", () => {
    const loss = { lost: 1 };
    const path = follow(new SoundPathGauge(), [loss, ...times(3), loss, ...times(20), loss, ...times(60)]);
    const mending = path.map((one) => one.mending);
    expect(mending.indexOf(true)).toBe(4);
    // The last loss is reading 25; 40 readings are 20 s.
    expect(mending.lastIndexOf(true)).toBe(25 + 39);
  });

  it("does not mend for one loss now and then", () => {
    const path = follow(new SoundPathGauge(), [...times(4), { lost: 1 }, ...times(20), { lost: 3 }, ...times(20)]);
    expect(path.some((one) => one.mending)).toBe(false);
  });

  it("takes what the browser makes up for a loss, but not where clocks differ a little or a stage is silent", () => {
    const some = (reading: Partial<SoundReading>) => follow(new SoundPathGauge(), times(4, reading)).at(-1)?.mending;
    expect(some({ concealedMs: 20 })).toBe(true);
    expect(some({ concealedMs: 2 })).toBe(false);
    expect(some({ concealedMs: 500, packets: 0 })).toBe(false);
  });

  it("tells a rung from what came before it, after four seconds", () => {
    const before = times(10, { kbps: 128 });
    const path = follow(new SoundPathGauge(), [...before, ...times(8, { kbps: 64.3 }), ...times(8, { kbps: 24.4 })]);
    const rungs = path.map((one) => one.rung);
    expect([rungs[9], rungs[16], rungs[17], rungs[24], rungs[25]]).toEqual([undefined, undefined, 64, undefined, 24]);
  });

  it("knows no rung where the stage sends no more", () => {
    for (const kbps of [24, 64]) {
      const path = follow(new SoundPathGauge(), times(40, { kbps }));
      expect(path.some((one) => one.rung !== undefined)).toBe(false);
    }
  });

  it("knows no rung in a pause of the stage", () => {
    const pause = times(20, { kbps: 0, packets: 0 });
    const path = follow(new SoundPathGauge(), [...times(10), ...pause, ...times(10)]);
    expect(path.some((one) => one.rung !== undefined)).toBe(false);
  });
});

describe("pathOf", () => {
  it("takes the relay's word for what it sends, and either's for losses", () => {
    const measured: SoundPath = { mending: false, rung: 64 };
    const told = { rung: 24, reason: "link", mending: true } as const;
    expect(pathOf(measured, undefined)).toBe(measured);
    expect(pathOf(undefined, undefined)).toBeUndefined();
    expect(pathOf(undefined, told)).toEqual(told);
    expect(pathOf(measured, { ...told, rung: undefined, reason: "best" })).toEqual({
      mending: true,
      rung: undefined,
      reason: "best",
    });
    expect(pathOf({ ...measured, mending: true }, { ...told, mending: false })?.mending).toBe(true);
  });
});
