import { afterEach, describe, expect, it, vi } from "vitest";
import type { Mesh } from "../../src/api/types";
import { keep, missing, recall, remember } from "../../src/mesh/known-relays";

const NOW = 1_000_000_000_000;
const meshOf = (...zones: string[]): Mesh => ({
  self: zones[0]!,
  nodes: zones.map((zone) => ({ id: zone, zone, since: "" })),
  links: [],
  articulation_points: [],
  cut_links: [],
});

describe("known relays", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("misses a relay that was there, until it is back", () => {
    const before = remember([], meshOf("stage", "parking"), NOW);
    const after = remember(before, meshOf("stage"), NOW + 5_000);
    expect(missing(after, meshOf("stage"))).toEqual([{ id: "parking", zone: "parking", at: NOW }]);
    expect(missing(remember(after, meshOf("stage", "parking"), NOW + 9_000), meshOf("stage", "parking"))).toEqual([]);
  });

  it("forgets who was gone for a day, and what a wrong clock wrote", () => {
    const known = [
      { id: "old", zone: "old", at: NOW - 25 * 3_600_000 },
      { id: "future", zone: "future", at: NOW + 1 },
    ];
    expect(remember(known, meshOf("stage"), NOW).map((one) => one.id)).toEqual(["stage"]);
  });

  it("survives whatever the storage holds", () => {
    const kept = new Map<string, string>();
    vi.stubGlobal("localStorage", {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
    });
    keep(remember([], meshOf("stage"), NOW));
    expect(recall()).toEqual([{ id: "stage", zone: "stage", at: NOW }]);
    for (const broken of ["", "{", "null", "[null, 7, {}]", '[{"id":1}]']) {
      kept.set("peddlenet.seen", broken);
      expect(recall()).toEqual([]);
    }
  });
});
