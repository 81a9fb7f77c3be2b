import { describe, expect, it } from "vitest";

/** The folders of src, each importing from those before it; what stands together does not see each other. */
const ORDER = [["device"], ["api"], ["webrtc", "rooms", "mesh"], ["hooks"], ["components"], ["pages"]];
const rankOf = (folder: string) => ORDER.findIndex((row) => row.includes(folder));
const folderOf = (file: string) => file.split("/").slice(0, -1).join("/");

/** What each file imports of ours, by paths below src and without endings. */
function importsOf(texts: Record<string, string>): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [path, text] of Object.entries(texts)) {
    const names = [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"?]*)/g)].map(([, name]) => name!);
    found.set(bare(path), names.map((name) => bare(new URL(name, `file:///${path}`).pathname.slice(1))).sort());
  }
  return found;
}

const bare = (path: string) => path.replace(/\.tsx?$/, "");

/** Imports that do not go one way, in words. */
function faultsOf(imports: Map<string, string[]>): string[] {
  const faults: string[] = [];
  for (const [file, wanted] of imports) {
    const from = folderOf(file);
    if (rankOf(from) < 0) faults.push(`${file} is in no folder that has a place in the order`);
    for (const other of wanted) {
      const to = folderOf(other);
      if (!imports.has(other)) faults.push(`${file} imports ${other}, which is not there`);
      else if (from !== to && rankOf(to) >= rankOf(from)) faults.push(`${file} imports ${other}, against the order`);
    }
  }
  return [...faults, ...circlesOf(imports)];
}

/** Each circle once, from the file at which the walk met it. */
function circlesOf(imports: Map<string, string[]>): string[] {
  const circles: string[] = [];
  const done = new Set<string>();
  const walk = (file: string, way: string[]) => {
    const start = way.indexOf(file);
    if (start >= 0) circles.push(`a circle: ${[...way.slice(start), file].join(" → ")}`);
    if (start >= 0 || done.has(file)) return;
    for (const next of imports.get(file) ?? []) walk(next, [...way, file]);
    done.add(file);
  };
  for (const file of imports.keys()) walk(file, []);
  return circles;
}

describe("imports", () => {
  const sources = import.meta.glob<string>("../src/**/*.{ts,tsx}", { query: "?raw", import: "default", eager: true });
  const texts = Object.fromEntries(Object.entries(sources).map(([path, text]) => [path.replace("../src/", ""), text]));

  it("go one way, without a circle", () => {
    const imports = importsOf(texts);
    expect(imports.get("pages/listen")).toContain("components/player");
    expect(faultsOf(imports)).toEqual([]);
  });

  it("come from every folder of the order", () => {
    const folders = new Set(Object.keys(texts).map(folderOf));
    expect([...folders].sort()).toEqual(ORDER.flat().sort());
  });

  it("are found out when they go back, aside, in a circle or nowhere", () => {
    const wrong = {
      "api/a.ts": 'import { b } from "../webrtc/b";',
      "webrtc/b.ts": 'import {\n  type C,\n} from "../rooms/c";\nimport "./d";\nexport { d } from "./d";',
      "rooms/c.ts": 'const lazy = import("./gone");',
      "webrtc/d.ts": 'import url from "./e.ts?worker&url";',
      "webrtc/e.ts": 'export * from "./b";',
      "else.ts": "",
    };
    expect(faultsOf(importsOf(wrong))).toEqual([
      "api/a imports webrtc/b, against the order",
      "webrtc/b imports rooms/c, against the order",
      "rooms/c imports rooms/gone, which is not there",
      "else is in no folder that has a place in the order",
      "a circle: webrtc/b → webrtc/d → webrtc/e → webrtc/b",
    ]);
  });
});
