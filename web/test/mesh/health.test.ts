import { describe, expect, it } from "vitest";
import type { Mesh, MeshArea, Message } from "../../src/api/types";
import { findings, hints, otherAreas, reach, zonesAhead } from "../../src/mesh/health";

const link = (a: string, b: string, up = true) => ({ a, b, up, rtt_ms: 1, loss: 0, cost: 1 });
const node = (id: string, zone = id) => ({ id, zone, since: "2026-07-03T18:00:00Z" });
const mesh = (zones: string[], links: Mesh["links"], more: Partial<Mesh> = {}): Mesh => ({
  self: zones[0]!,
  nodes: zones.map((zone) => node(zone)),
  links,
  articulation_points: [],
  cut_links: [],
  ...more,
});
const said = (zone: string, clock_ahead = false): Message => ({
  id: Math.random().toString(),
  author: "a",
  text: "t",
  zone,
  sent_at: "2026-07-03T18:00:00Z",
  clock_ahead,
});
const texts = (...args: Parameters<typeof findings>) => findings(...args).map((one) => one.text);

describe("health", () => {
  it("follows links that are up to know whom an announcement reaches", () => {
    const chain = mesh(["stage", "food", "camping"], [link("stage", "food"), link("camping", "food", false)]);
    expect(reach(chain)).toEqual({ reached: ["stage", "food"], lost: ["camping"] });
    expect(reach(mesh(["stage"], []))).toEqual({ reached: ["stage"], lost: [] });
    const gone = [
      { id: "x", zone: "parking", at: 0 },
      { id: "y", zone: "food", at: 0 },
    ];
    expect(reach(mesh(["stage", "food"], [link("stage", "food")]), gone)).toEqual({
      reached: ["stage", "food"],
      lost: ["parking"],
    });
  });

  it("counts a zone as reached when one of its relays is", () => {
    const two = mesh(["stage", "food"], [link("stage", "food")]);
    two.nodes.push(node("food-2", "food"));
    expect(reach(two).lost).toEqual([]);
  });

  it("says that other relays gave back what the disk lacks", () => {
    const older_disk = { records: 3, warning: "relay 7d1f02c4 of gate gave back 3 records" };
    const found = findings(mesh(["stage"], [], { older_disk }), [], [], undefined);
    expect(found.map((one) => one.text)).toEqual(["The disk of stage is older than what was said there"]);
    expect(found[0]!.advice).toBe(older_disk.warning);
  });

  it("says that two relays have one key, and what to do", () => {
    const told = (second: boolean) => {
      const key_twice = { second, warning: "relay-node id --new" };
      return findings(mesh(["stage"], [], { key_twice }), [], [], undefined)[0]!;
    };
    expect(told(true).text).toBe("stage has the key of another relay, and no links");
    expect(told(false)).toEqual({ tone: "bad", text: "Two relays have one key", advice: "relay-node id --new" });
  });

  it("says what is wrong with the records on the disk", () => {
    const told = (history: boolean) => {
      const store = { history, warning: "the disk is full: delete something" };
      return findings(mesh(["stage"], [], { store }), [], [], undefined)[0]!;
    };
    expect(told(false)).toMatchObject({ tone: "bad", text: "The disk of stage takes no records" });
    expect(told(true)).toMatchObject({ tone: "warn", text: "The records on the disk of stage were damaged" });
    expect(told(false).advice).toContain("delete something");
  });

  it("names a relay of a release that does not fit, and which one to update", () => {
    const warning = "relay 7d1f02c4 of gate speaks bridge versions 5 to 5, this one 4 to 4: update this relay";
    const found = findings(mesh(["stage"], [], { misfits: [{ node: "x", zone: "gate", warning }] }), [], [], undefined);
    expect(found.map((one) => one.text)).toEqual(["The relay of gate and this one are of releases that do not fit"]);
    expect(found[0]!.advice).toBe(warning);
  });

  it("puts what is broken before what might break", () => {
    const chain = mesh(["stage", "food", "camping"], [link("stage", "food"), link("camping", "food", false)], {
      articulation_points: [
        { node: "food", cuts_off: ["camping"], warning: "if the relay of food dies, camping is cut off" },
      ],
    });
    const gone = [{ id: "p", zone: "parking", at: Date.parse("2026-07-03T18:00:00Z") }];
    const found = findings(chain, gone, ["food"], undefined);
    expect(found.map((one) => one.tone)).toEqual(["bad", "bad", "bad", "warn", "warn"]);
    expect(found[0]!.text).toBe("The link between camping and food is down");
    expect(found[1]!.text).toBe("Out of reach from stage: camping");
    expect(found[2]!.text).toContain("parking is gone since");
    expect(found[4]!.text).toBe("If the relay of food dies, camping is cut off");
  });

  it("says once that a zone has lost all its links", () => {
    const alone = mesh(["stage", "food"], [link("stage", "food", false)]);
    expect(texts(alone, [], [], undefined)).toEqual(["stage has lost every link", "Out of reach from stage: food"]);
  });

  it("has nothing to say of a ring whose clocks agree", () => {
    const ring = mesh(["a", "b", "c"], [link("a", "b"), link("b", "c"), link("c", "a")]);
    expect(findings(ring, [], [], 59_000)).toEqual([]);
    expect(findings(ring, [], [], -59_000)).toEqual([]);
  });

  it("names other areas once, and one that has come apart", () => {
    const area = (number: number, fragment = "f"): MeshArea => ({
      area: number,
      fragment,
      relays: 3,
      publishers: 1,
      hops: 1,
      cost: 4,
      path: [number],
    });
    const one = mesh(["a"], [], { areas: [area(7), area(2, "x"), area(1), area(2, "y")] });
    expect(otherAreas(one)).toEqual([1, 2]);
    expect(texts(one, [], [], undefined)).toEqual(["Area 2 has come apart into 2 parts"]);
    expect(otherAreas(mesh(["a"], []))).toEqual([]);
  });

  it("goes by the last word of each zone in each room", () => {
    expect(zonesAhead([[said("food", true), said("food")], [said("camping"), said("camping", true)], []])).toEqual([
      "camping",
    ]);
  });

  it("suspects the own clock when all others are ahead of it", () => {
    const ring = mesh(["a", "b", "c"], [link("a", "b"), link("b", "c")]);
    expect(texts(ring, [], ["b"], undefined)).toEqual(["The clock in b is more than a minute ahead of a's"]);
    expect(texts(ring, [], ["b", "c"], undefined)).toEqual(["The clocks of all other zones are ahead of a's"]);
    expect(texts(mesh(["a", "b"], [link("a", "b")]), [], ["b"], undefined)).toEqual([
      "The clock in b is more than a minute ahead of a's",
    ]);
  });

  it("compares the relay's clock with this device's", () => {
    const one = mesh(["a"], []);
    expect(texts(one, [], [], 5 * 60_000)).toEqual(["a's clock is 5 min behind this device's"]);
    expect(texts(one, [], [], -3 * 3_600_000)).toEqual(["a's clock is 3 h ahead of this device's"]);
    expect(texts(one, [], [], 20_000 * 86_400_000)).toEqual(["a's clock is 20000 days behind this device's"]);
  });

  it("tells who publishes what listeners would miss, and nothing when all is well", () => {
    expect(hints()).toEqual([]);
    expect(hints({ dropped_too_large: 0 })).toEqual([]);
    expect(hints({ dropped_too_large: 0, answers_keyframe_requests: true })).toEqual([]);
    const both = hints({ dropped_too_large: 3, answers_keyframe_requests: false });
    expect(both).toHaveLength(2);
    expect(both[0]).toContain("1500");
    expect(both[1]).toContain("keyframe");
  });
});
