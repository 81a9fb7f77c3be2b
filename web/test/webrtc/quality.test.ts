import { describe, expect, it } from "vitest";
import { encodingsOf, NO_ENCODINGS, qualityOf } from "../../src/webrtc/quality";

describe("quality", () => {
  it("reads the encodings there are, from the best to the base", () => {
    const data = JSON.stringify({
      1: {
        active: [
          { encodingId: "h", simulcastIdx: 2, bitrate: 1_856_000, width: 1280, height: 720 },
          { encodingId: "l", simulcastIdx: 0, bitrate: 160_000 },
        ],
        inactive: [{ encodingId: "m" }],
        layers: [],
      },
    });
    expect(encodingsOf(data)).toEqual({
      active: [
        { id: "h", size: { width: 1280, height: 720 } },
        { id: "l", size: undefined },
      ],
      inactive: 1,
    });
    expect(encodingsOf("{}")).toEqual(NO_ENCODINGS);
  });

  it("reads what is sent and why", () => {
    const video = { encodingId: "m", width: 640, height: 360, kbps: 560 };
    expect(qualityOf(JSON.stringify({ video, best: video, reason: "link" }))).toEqual({
      video: { id: "m", size: { width: 640, height: 360 } },
      reason: "link",
    });
    expect(qualityOf('{"video":null,"best":null,"reason":"none"}')).toEqual({ video: undefined, reason: "none" });
    const audio = { encodingId: "mid", reason: "link", mending: "copies" };
    const sound = (audio: unknown) => qualityOf(JSON.stringify({ video: null, reason: "none", audio }))?.sound;
    expect(sound(audio)).toEqual({ rung: 64, reason: "link", mending: true });
    expect(sound({ encodingId: "high", reason: "best", mending: "none" })).toEqual({
      rung: undefined,
      reason: "best",
      mending: false,
    });
    for (const unread of [undefined, null, 7, [], { encodingId: 24 }]) expect(sound(unread)).toBeUndefined();
    expect(sound({ encodingId: "toString" })).toEqual({ rung: undefined, reason: "none", mending: false });
    expect(qualityOf('{"video":null,"reason":"tomorrow"}')).toEqual({ video: undefined, reason: "none" });
  });

  it("makes something of whatever comes", () => {
    for (const data of ["", "null", "[]", "7", '"x"', "{", '{"reason":"best"}'])
      expect(qualityOf(data)).toBeUndefined();
    for (const data of ["", "null", "[]", "{"]) expect(encodingsOf(data)).toBeUndefined();
    for (const media of [null, 1, [], { active: 1, inactive: {} }, { active: [null, 1, {}, { encodingId: 7 }] }]) {
      expect(encodingsOf(JSON.stringify({ 1: media }))).toEqual(NO_ENCODINGS);
    }
    const sizes = [{ width: "1280", height: 720 }, { width: 0, height: 0 }, { width: 1.5, height: 2 }, { width: -1 }];
    for (const size of sizes) {
      expect(qualityOf(JSON.stringify({ video: { encodingId: "h", ...size } }))?.video).toEqual({ id: "h" });
    }
    const many = Array.from({ length: 1_000 }, (_, n) => ({ encodingId: String(n) }));
    expect(encodingsOf(JSON.stringify({ 1: { active: many, inactive: many } }))).toMatchObject({ inactive: 16 });
    expect(encodingsOf(JSON.stringify({ 1: { active: many } }))?.active).toHaveLength(16);
  });
});
