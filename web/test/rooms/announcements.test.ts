import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Message } from "../../src/api/types";
import { announce, keepRead, NEWS_MS, newsOf, readIds } from "../../src/rooms/announcements";

const NOW = Date.parse("2026-07-03T18:00:00Z");
const message = (id: string, agoMs: number): Message => ({
  id,
  author: "Safety",
  text: id,
  zone: "stage",
  sent_at: new Date(NOW - agoMs).toISOString(),
});
const ids = (messages: Message[]) => messages.map((one) => one.id);
const none = new Set<string>();

describe("announcements", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("shows each that was not put away, the newest first", () => {
    const all = [message("a", 3_000), message("b", 2_000), message("c", 1_000)];
    expect(ids(newsOf(all, none, none, NOW))).toEqual(["c", "b", "a"]);
    expect(ids(newsOf(all, none, new Set(["b"]), NOW))).toEqual(["c", "a"]);
  });

  it("leaves out yesterday's, but not what comes now from a relay whose clock is wrong", () => {
    const all = [message("old", NEWS_MS + 1), message("now", NEWS_MS + 1), message("ahead", -NEWS_MS)];
    expect(ids(newsOf(all, new Set(["now"]), none, NOW))).toEqual(["ahead", "now"]);
  });

  it("remembers what was put away, within a bound and whatever the storage holds", () => {
    const kept = new Map<string, string>();
    vi.stubGlobal("localStorage", {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
    });
    keepRead(new Set(Array.from({ length: 150 }, (_, i) => `id${i}`)));
    expect([readIds().size, readIds().has("id149"), readIds().has("id0")]).toEqual([100, true, false]);
    for (const broken of ["", "{", "7", '{"a":1}', "[1,null]"]) {
      kept.set("peddlenet.read", broken);
      expect(readIds()).toEqual(new Set());
    }
  });

  describe("sending", () => {
    const fetch = vi.fn();
    beforeEach(() => {
      fetch.mockReset();
      vi.stubGlobal("fetch", fetch);
    });

    it("carries the token and a nonce, and says where it is stored", async () => {
      fetch.mockResolvedValue(new Response('{"id":"1","saved":"mesh"}', { status: 201 }));
      expect(await announce("Safety", "Storm", "n1", "secret")).toEqual({ id: "1", saved: "mesh" });
      const [url, init] = fetch.mock.calls[0]!;
      expect(url).toBe("/api/v1/announcements");
      expect(init.headers).toEqual({ "content-type": "application/json", authorization: "Bearer secret" });
      expect(JSON.parse(init.body)).toEqual({ author: "Safety", text: "Storm", nonce: "n1" });
    });

    it("fails with the relay's words, or with those for a relay that does not answer", async () => {
      fetch.mockResolvedValue(new Response('{"title":"text is empty"}', { status: 422 }));
      await expect(announce("a", "b", "n", undefined)).rejects.toMatchObject({ status: 422, title: "Text is empty." });
      fetch.mockRejectedValue(new TypeError("network"));
      await expect(announce("a", "b", "n", undefined)).rejects.toMatchObject({ status: 0 });
    });
  });
});
