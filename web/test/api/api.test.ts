import { describe, expect, it } from "vitest";
import { cutOff, type Mesh, origin, roomOf, spoken, streamNameFault, weakSpots } from "../../src/api/api";

describe("api", () => {
  it("says where a message comes from by its relay and not by its author", () => {
    const message = {
      id: "1",
      author: "Safety (stage)",
      text: "leave",
      zone: "camping",
      sent_at: "2026-07-03T18:00:00Z",
    };
    expect(origin(message)).toBe("from zone camping");
    expect(origin({ ...message, zone_unproven: true })).toBe("from a relay that says it is in zone camping");
  });

  it("takes the names the relay takes", () => {
    for (const name of ["main-stage", "a", "main-stage/commentary/en", "x".repeat(64)])
      expect(streamNameFault(name)).toBeUndefined();
    for (const name of ["", "Main", "a b", "a//b", "/a", "a/b/c/d", "x".repeat(65), "é", "a/../b"])
      expect(streamNameFault(name)).toBeTypeOf("string");
  });

  it("finds the room of a stream", () => {
    expect(roomOf("main-stage/commentary")).toBe("main-stage");
    expect(roomOf(undefined)).toBe("lobby");
    expect(roomOf("<script>")).toBe("lobby");
  });

  it("says names as people read them", () => {
    expect(spoken("main-stage/commentary")).toBe("Main stage\u00a0· Commentary");
    expect(spoken("-")).toBe("-");
  });

  it("says what the mesh hangs on, the worst first and each once", () => {
    const spot = (warning: string, cuts_off: string[]) => ({ warning, cuts_off, node: "n", a: "a", b: "b" });
    const mesh: Mesh = {
      self: "me",
      nodes: [],
      links: [],
      articulation_points: [spot("if a dies, x is cut off", ["x"]), spot("if b dies, x, y are cut off", ["x", "y"])],
      bridges: [spot("if a dies, x is cut off", ["x"])],
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
      bridges: [],
    });
    expect(cutOff(mesh([]))).toBe(false);
    expect(cutOff(mesh([link("me", "b", false), link("c", "d", true)]))).toBe(true);
    expect(cutOff(mesh([link("me", "b", false), link("c", "me", true)]))).toBe(false);
  });
});
