import { describe, expect, it } from "vitest";
import { origin, roomOf, spoken, streamNameFault } from "../../src/api/names";

describe("names", () => {
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
});
