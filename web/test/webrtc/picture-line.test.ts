import { describe, expect, it } from "vitest";
import { pictureLine, type Shown } from "../../src/webrtc/picture-line";
import type { Encoding, Reason } from "../../src/webrtc/quality";

const H: Encoding = { id: "h", size: { width: 1280, height: 720 } };
const L: Encoding = { id: "l", size: { width: 320, height: 180 } };
const PLAIN: Shown = {
  choice: "best",
  wish: {},
  encodings: { active: [H, L], inactive: 0 },
  quality: undefined,
  frame: undefined,
};
/** With plain spaces. */
const line = (video: Encoding | undefined, reason: Reason, change: Partial<Shown> = {}) =>
  pictureLine({ ...PLAIN, quality: { video, reason, sound: undefined }, ...change })?.replaceAll("\u00a0", " ");

describe("picture line", () => {
  it("says what is shown and why it is no better", () => {
    expect(line(H, "best")).toBe("1280 × 720, best there is");
    expect(line(L, "link")).toBe("320 × 180, your network");
    expect(line(L, "publisher")).toBe("320 × 180, stage sends no better");
    expect(line(L, "bridge")).toBe("320 × 180, a link is full");
    expect(line(L, "none")).toBe("320 × 180");
  });

  it("says why there is no picture", () => {
    expect(line(undefined, "link")).toBe("Picture paused: your network is slow");
    expect(line(undefined, "bridge")).toBe("Picture paused: a link is full");
    expect(line(undefined, "publisher")).toBe("Stage sends no picture now");
    expect(line(undefined, "none")).toBeUndefined();
  });

  it("tells whose wish it was", () => {
    const save = { choice: "save", wish: { encodingId: "l" } } as const;
    expect(line(L, "wish", save)).toBe("320 × 180, saving data");
    expect(line(H, "wish", save)).toBe("1280 × 720, smaller soon");
    expect(line(L, "best", { ...save, encodings: { active: [L], inactive: 0 } })).toBe(
      "320 × 180, stage sends no smaller",
    );
    expect(line(L, "wish", { wish: { encodingId: "l" } })).toBe("320 × 180, enough at this size");
    // The relay has not heard yet that more is wanted again.
    expect(line(L, "wish")).toBe("320 × 180, better soon");
    expect(line(undefined, "wish")).toBe("Picture is coming");
    expect(line(undefined, "best")).toBe("Picture is coming");
  });

  it("follows the choice of sound alone at once, and says nothing before the relay did", () => {
    const sound = { choice: "sound", wish: { video: false } } as const;
    expect(line(undefined, "wish", sound)).toBe("Sound only, as you asked");
    expect(line(H, "best", sound)).toBe("Sound only, as you asked");
    expect(pictureLine(PLAIN)).toBeUndefined();
  });

  it("takes the size of the frames where the relay does not know it", () => {
    const unknown: Encoding = { id: "1", size: undefined };
    expect(line(unknown, "best", { frame: { width: 640, height: 360 } })).toBe("640 × 360, best there is");
    expect(line(unknown, "best")).toBe("Picture, best there is");
  });
});
