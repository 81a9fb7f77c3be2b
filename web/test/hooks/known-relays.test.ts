import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Mesh } from "../../src/api/types";
import { type Missing, useKnownRelays } from "../../src/hooks/known-relays";
import { recall } from "../../src/mesh/known-relays";
import { type Staged, stage } from "./stage";

const mesh = (...zones: string[]) => ({ nodes: zones.map((zone) => ({ id: zone, zone, since: "" })) }) as Mesh;

describe("known relays of a page", () => {
  let relays: Staged<Mesh | undefined, Missing>;
  const gone = () => relays.now.gone.map((one) => one.zone);

  beforeEach(async () => {
    const kept = new Map<string, string>();
    vi.stubGlobal("localStorage", {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
    });
    relays = await stage((latest: Mesh | undefined) => useKnownRelays(latest), undefined);
  });
  afterEach(async () => {
    await relays.end();
    vi.unstubAllGlobals();
  });

  it("are missed once they are gone, and never before the mesh is known", async () => {
    expect(gone()).toEqual([]);
    await relays.set(mesh("stage", "food"));
    await relays.set(mesh("stage"));
    expect(gone()).toEqual(["food"]);
    await relays.set(mesh("stage", "food"));
    expect(gone()).toEqual([]);
  });

  it("are forgotten by hand, here and after a reload", async () => {
    await relays.set(mesh("stage", "food"));
    await relays.set(mesh("stage"));
    await relays.act(() => relays.now.forget());
    expect(gone()).toEqual([]);
    expect(recall().map((one) => one.zone)).toEqual(["stage"]);
  });
});
