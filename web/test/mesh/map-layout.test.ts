import { describe, expect, it } from "vitest";
import type { Mesh } from "../../src/api/types";
import { ringOrder, ringPlaces } from "../../src/mesh/map-layout";

const meshOf = (ids: string[], pairs: string[]): Mesh => ({
  self: ids[0]!,
  nodes: ids.map((id) => ({ id, zone: id, since: "" })),
  links: pairs.map((pair) => ({ a: pair[0]!, b: pair[1]!, rtt_ms: 1, loss: 0, cost: 1, up: true })),
  articulation_points: [],
  cut_links: [],
});

describe("map layout", () => {
  it("lays a chain out as a chain, from one end to the other", () => {
    expect(ringOrder(meshOf(["a", "b", "c", "d"], ["bd", "da", "ac"]))).toEqual(["b", "d", "a", "c"]);
  });

  it("has every relay once, also those without links, whatever the order of the answer", () => {
    const one = ringOrder(meshOf(["a", "b", "c", "d", "e"], ["ab", "bc", "ca", "ax"]));
    const other = ringOrder(meshOf(["e", "d", "c", "b", "a"], ["ca", "xa", "bc", "ab"]));
    expect([...one].sort()).toEqual(["a", "b", "c", "d", "e"]);
    expect(other).toEqual(one);
  });

  it("puts no two relays in one place and none exactly beside the middle", () => {
    for (let count = 3; count <= 64; count++) {
      const places = ringPlaces(count, 100);
      expect(new Set(places.map(({ x, y }) => `${x.toFixed(3)} ${y.toFixed(3)}`)).size).toBe(count);
      if (count < 12) expect(places.every(({ y }) => Math.abs(y) > 1)).toBe(true);
    }
    expect(ringPlaces(1, 100)).toEqual([{ x: 0, y: 0 }]);
  });
});
