import { describe, expect, it } from "vitest";
import type { Mesh } from "../../src/api/types";
import { cutOff, weakSpots } from "../../src/mesh/cuts";

describe("cuts", () => {
  it("says what the mesh hangs on, the worst first and each once", () => {
    const spot = (warning: string, cuts_off: string[]) => ({ warning, cuts_off, node: "n", a: "a", b: "b" });
    const mesh: Mesh = {
      self: "me",
      nodes: [],
      links: [],
      articulation_points: [spot("if a dies, x is cut off", ["x"]), spot("if b dies, x, y are cut off", ["x", "y"])],
      cut_links: [spot("if a dies, x is cut off", ["x"])],
    };
    expect(weakSpots(mesh)).toEqual(["If b dies, x, y are cut off", "If a dies, x is cut off"]);
  });

  it("knows a zone that lost all its links", () => {
    const link = (a: string, b: string, up: boolean) => ({ a, b, up, rtt_ms: 1, loss: 0, cost: 1 });
    const mesh = (links: Mesh["links"]): Mesh => ({
      self: "me",
      nodes: [],
      links,
      articulation_points: [],
      cut_links: [],
    });
    expect(cutOff(mesh([]))).toBe(false);
    expect(cutOff(mesh([link("me", "b", false), link("c", "d", true)]))).toBe(true);
    expect(cutOff(mesh([link("me", "b", false), link("c", "me", true)]))).toBe(false);
  });
});
