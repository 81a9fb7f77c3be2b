import { describe, expect, it } from "vitest";
import { faceOf } from "../../src/device/face";

describe("face", () => {
  it("follows the device until somebody chooses, and ignores what it does not know", () => {
    expect([faceOf(undefined, false), faceOf(undefined, true), faceOf("blue", true)]).toEqual([
      "dark",
      "light",
      "light",
    ]);
    expect([faceOf("dark", true), faceOf("light", false)]).toEqual(["dark", "light"]);
  });
});
