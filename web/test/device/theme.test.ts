import { describe, expect, it } from "vitest";
import { themeOf } from "../../src/device/theme";

describe("theme", () => {
  it("follows the device until somebody chooses, and ignores what it does not know", () => {
    expect([themeOf(undefined, false), themeOf(undefined, true), themeOf("blue", true)]).toEqual([
      "dark",
      "light",
      "light",
    ]);
    expect([themeOf("dark", true), themeOf("light", false)]).toEqual(["dark", "light"]);
  });
});
