import { describe, expect, it } from "vitest";
import type { Mesh, MeshHearing } from "../../src/api/types";
import { hearingOf } from "../../src/mesh/hearing";

const NOBODY: MeshHearing = { low: 0, mid: 0, high: 0, answers: 0, copies: 0, repeats: 0 };

function mesh(...nodes: [string, Partial<MeshHearing> | undefined][]): Mesh {
  return {
    self: "0",
    nodes: nodes.map(([zone, hearing], nth) => ({
      id: String(nth),
      zone,
      since: "",
      hearing: hearing && { ...NOBODY, ...hearing },
    })),
    links: [],
    articulation_points: [],
    cut_links: [],
  };
}

const texts = (...nodes: Parameters<typeof mesh>) => hearingOf(mesh(...nodes)).map(({ text }) => text);

describe("hearing", () => {
  it("adds up the relays of a zone, and leaves out what is not known", () => {
    const found = hearingOf(
      mesh(["gate", { high: 2 }], ["stage", { high: 40 }], ["stage", { mid: 10 }], ["bar", undefined]),
    );
    expect(found).toEqual([
      { zone: "stage", listeners: 50, text: "80\u00a0% get the whole sound · 20\u00a0% at 64k" },
      { zone: "gate", listeners: 2, text: "all get the whole sound" },
    ]);
  });

  it("says shares, and never that nobody is somebody", () => {
    expect(texts(["a", {}])).toEqual(["nobody listens"]);
    expect(texts(["a", { low: 1, high: 999, repeats: 30, copies: 10, answers: 10 }])).toEqual([
      "over 99\u00a0% get the whole sound · under 1\u00a0% at 24k · 5\u00a0% with losses that are mended",
    ]);
    expect(texts(["a", { low: 3 }])).toEqual(["100\u00a0% at 24k"]);
  });
});
