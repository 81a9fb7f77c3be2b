import { describe, expect, it } from "vitest";
import type { Encoding, Size } from "../../src/webrtc/quality";
import { choiceOf, type Situation, wishOf } from "../../src/webrtc/wish";

const encoding = (id: string, width: number, height: number): Encoding => ({ id, size: { width, height } });
const LADDER = [encoding("h", 1280, 720), encoding("m", 640, 360), encoding("l", 320, 180)];
const PLAIN: Situation = {
  choice: "best",
  away: false,
  encodings: { active: LADDER, inactive: 0 },
  drawn: undefined,
};
const wish = (change: Partial<Situation>) => wishOf({ ...PLAIN, ...change });
const drawn = (width: number, height: number, active = LADDER) =>
  wish({ drawn: { width, height } satisfies Size, encodings: { active, inactive: 0 } });

describe("wish", () => {
  it("is what was chosen", () => {
    expect(wish({})).toEqual({});
    expect(wish({ choice: "save" })).toEqual({ encodingId: "l" });
    expect(wish({ choice: "sound" })).toEqual({ video: false });
    expect(["save", "sound", undefined, "", "worst"].map(choiceOf)).toEqual(["save", "sound", "best", "best", "best"]);
  });

  it("saves pictures where there is one encoding only", () => {
    const one = [encoding("0", 1280, 720)];
    expect(wish({ choice: "save", encodings: { active: one, inactive: 0 } })).toEqual({
      encodingId: "0",
      maxSpatialLayerId: 0,
      maxTemporalLayerId: 0,
    });
    // The others may come back: then it is the base of them.
    expect(wish({ choice: "save", encodings: { active: one, inactive: 2 } })).toEqual({ encodingId: "0" });
    expect(wish({ choice: "save", encodings: { active: [], inactive: 3 } })).toEqual({});
  });

  it("is no picture while nobody sees it, whatever was chosen", () => {
    for (const choice of ["best", "save", "sound"] as const)
      expect(wish({ choice, away: true })).toEqual({ video: false });
  });

  it("is no larger than what is drawn, once half of it would do", () => {
    expect(drawn(640, 360)).toEqual({});
    expect(drawn(639, 359)).toEqual({ encodingId: "m" });
    expect(drawn(320, 180)).toEqual({ encodingId: "l" });
    expect(drawn(321, 181)).toEqual({ encodingId: "m" });
    expect(drawn(40, 30)).toEqual({ encodingId: "l" });
    expect(drawn(4_000, 3_000)).toEqual({});
    expect(drawn(Infinity, Infinity)).toEqual({});
  });

  it("looks at how large the picture itself is in its box", () => {
    const upright = [encoding("h", 720, 1280), encoding("l", 180, 320)];
    expect(drawn(1_280, 720, upright)).toEqual({});
    expect(drawn(640, 360, upright)).toEqual({ encodingId: "h" });
    expect(drawn(560, 315, upright)).toEqual({ encodingId: "l" });
  });

  it("bounds nothing by sizes that nobody knows", () => {
    expect(
      drawn(40, 30, [
        { id: "1", size: undefined },
        { id: "0", size: undefined },
      ]),
    ).toEqual({});
    expect(drawn(40, 30, [])).toEqual({});
  });
});
