import { describe, expect, it } from "vitest";
import { at, root, rootOf, within } from "../../src/api/root";

describe("root", () => {
  it("is the origin's own where no proxy gave the relay a path", () => {
    expect(rootOf("http://10.0.0.5:8080/assets/listen-1.js")).toBe("/");
    expect(root).toBe("/");
    expect(at("/api/v1/streams")).toBe("/api/v1/streams");
    expect(within("/whip/main-stage/1")).toBe("/whip/main-stage/1");
  });

  it("is the path that a proxy gave it", () => {
    expect(rootOf("https://live.example/relay/stage/assets/listen-1.js")).toBe("/relay/stage/");
    expect(rootOf("file:///somewhere/src/root.ts")).toBe("/");
  });
});
