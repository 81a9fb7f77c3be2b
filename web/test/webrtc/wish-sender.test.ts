import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { WishSender } from "../../src/webrtc/wish-sender";

const SOUND = { video: false } as const;

describe("wish sender", () => {
  let asked: string[];
  let answer: () => Response | Promise<Response>;
  let sender: WishSender;
  beforeEach(() => {
    vi.useFakeTimers();
    asked = [];
    answer = () => new Response("");
    sender = new WishSender(async (url, init) => {
      asked.push(`${url} ${init.body}`);
      return answer();
    });
  });
  afterEach(() => void vi.useRealTimers());
  const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

  it("has nothing to say of a session that is as it should be", async () => {
    sender.wish({});
    sender.attach("/1");
    await settle(5_000);
    expect(asked).toEqual([]);
  });

  it("sends at most two wishes in a second, and the last one wins", async () => {
    sender.attach("/1");
    for (const id of ["a", "b", "c"]) sender.wish({ encodingId: id });
    await settle(499);
    expect(asked).toEqual(['/1 {"encodingId":"a"}']);
    await settle(1);
    expect(asked).toEqual(['/1 {"encodingId":"a"}', '/1 {"encodingId":"c"}']);
    await settle(5_000);
    expect(asked).toHaveLength(2);
    for (let n = 0; n < 100; n += 1) {
      sender.wish({ encodingId: String(n) });
      await settle(50);
    }
    expect(asked.length).toBeLessThanOrEqual(13);
    await settle(500);
    expect(asked.at(-1)).toBe('/1 {"encodingId":"99"}');
  });

  it("sends one after the other, so that none overtakes", async () => {
    let done: (response: Response) => void = () => undefined;
    answer = () => new Promise((resolve) => (done = resolve));
    sender.attach("/1");
    sender.wish(SOUND);
    await settle(2_000);
    sender.wish({});
    await settle(2_000);
    expect(asked).toEqual(['/1 {"video":false}']);
    done(new Response(""));
    await settle();
    expect(asked).toEqual(['/1 {"video":false}', "/1 {}"]);
  });

  it("says it again to each new session", async () => {
    sender.attach("/1");
    sender.wish(SOUND);
    await settle(1_000);
    sender.attach("/2");
    await settle(1_000);
    expect(asked).toEqual(['/1 {"video":false}', '/2 {"video":false}']);
    sender.detach();
    sender.wish({ encodingId: "m" });
    await settle(1_000);
    expect(asked).toHaveLength(2);
    sender.attach("/3");
    expect(asked.at(-1)).toBe('/3 {"encodingId":"m"}');
    sender.attach(undefined);
    sender.wish(SOUND);
    await settle(1_000);
    expect(asked).toHaveLength(3);
  });

  it("ignores what an older session answers", async () => {
    let done: (response: Response) => void = () => undefined;
    answer = () => new Promise((resolve) => (done = resolve));
    sender.attach("/1");
    sender.wish(SOUND);
    const late = done;
    answer = () => new Response("");
    sender.attach("/2");
    await settle(500);
    late(new Response("", { status: 500 }));
    await settle(10_000);
    expect(asked).toEqual(['/1 {"video":false}', '/2 {"video":false}']);
  });

  it("takes everything where an encoding is not there, until another is wished", async () => {
    answer = () => new Response("{}", { status: asked.at(-1)!.includes("encodingId") ? 404 : 200 });
    sender.attach("/1");
    sender.wish({ encodingId: "x" });
    await settle(10_000);
    expect(asked).toEqual(['/1 {"encodingId":"x"}', "/1 {}"]);
    sender.wish({ encodingId: "y" });
    await settle(10_000);
    expect(asked.slice(2)).toEqual(['/1 {"encodingId":"y"}', "/1 {}"]);
  });

  it("leaves a session alone that the relay no longer knows, and whatever else it refuses", async () => {
    for (const status of [400, 403, 404, 405, 413, 415]) {
      answer = () => new Response("{}", { status });
      sender.attach(`/${status}`);
      sender.wish(SOUND);
      await settle(60_000);
    }
    expect(asked).toHaveLength(6);
  });

  it("waits as long as a busy relay asks, and then says what is wished by then", async () => {
    answer = () => new Response("{}", { status: 429, headers: { "retry-after": "3" } });
    sender.attach("/1");
    sender.wish(SOUND);
    await settle();
    answer = () => new Response("");
    sender.wish({ encodingId: "m" });
    await settle(2_999);
    expect(asked).toHaveLength(1);
    await settle(1);
    expect(asked).toEqual(['/1 {"video":false}', '/1 {"encodingId":"m"}']);
  });

  it("tries again, ever more slowly, while the relay cannot be reached", async () => {
    answer = () => Promise.reject(new TypeError("no route"));
    sender.attach("/1");
    sender.wish(SOUND);
    await settle(60_000);
    expect(asked.length).toBeGreaterThan(4);
    expect(asked.length).toBeLessThan(10);
    // It is not known whether any of them arrived.
    answer = () => new Response("");
    sender.wish({});
    await settle(30_000);
    expect(asked.at(-1)).toBe("/1 {}");
    const before = asked.length;
    await settle(60_000);
    expect(asked).toHaveLength(before);
  });
});
