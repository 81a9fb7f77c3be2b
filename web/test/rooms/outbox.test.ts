import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Problem, unreachable } from "../../src/api/problem";
import type { giveFile } from "../../src/rooms/files";
import { OFFERS_MAX, Outbox } from "../../src/rooms/outbox";

/** Sendings that end when the test says so. */
function line() {
  const sent: {
    name: string;
    token: string | undefined;
    stopped: boolean;
    share(share: number): void;
    ok(): Promise<void>;
    fail(problem: Problem): Promise<void>;
  }[] = [];
  const give: typeof giveFile = (_room, file, _from, token, onShare) => {
    let resolve!: () => void;
    let reject!: (problem: Problem) => void;
    const done = new Promise<void>((yes, no) => ([resolve, reject] = [yes, no]));
    const settle = () =>
      done
        .then(
          () => undefined,
          () => undefined,
        )
        .then(() => undefined);
    const one = {
      name: file.name,
      token,
      stopped: false,
      share: onShare,
      ok: () => {
        resolve();
        return settle();
      },
      fail: (problem: Problem) => {
        reject(problem);
        return settle();
      },
    };
    sent.push(one);
    const stop = () => {
      one.stopped = true;
      resolve();
    };
    return { done, stop };
  };
  return { sent, give };
}

const file = (name: string) => ({ name, size: 1000, type: "" }) as File;
const states = (outbox: Outbox) => outbox.offers.map((one) => `${one.name} ${one.state}`);

describe("outbox", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("sends one after another and forgets what has arrived", async () => {
    const { sent, give } = line();
    const outbox = new Outbox("lobby", () => undefined, give);
    outbox.offer([file("a"), file("b")], "Ana");
    expect(states(outbox)).toEqual(["a sends", "b waits"]);
    sent[0]!.share(0.5);
    expect(outbox.offers[0]!.share).toBe(0.5);
    sent[0]!.share(1);
    expect(states(outbox)).toEqual(["a stores", "b waits"]);
    await sent[0]!.ok();
    expect(states(outbox)).toEqual(["b sends"]);
    expect(outbox.busy).toBe(true);
    await sent[1]!.ok();
    expect([states(outbox), outbox.busy]).toEqual([[], false]);
  });

  it("takes back what is on its way and goes on with the next", async () => {
    const { sent, give } = line();
    const outbox = new Outbox("lobby", () => undefined, give);
    outbox.offer([file("a"), file("b"), file("c")], "Ana");
    outbox.drop(outbox.offers[0]!.key);
    expect([sent[0]!.stopped, states(outbox)]).toEqual([true, ["b sends", "c waits"]]);
    outbox.drop(outbox.offers[1]!.key);
    await sent[1]!.ok();
    expect([states(outbox), sent.length]).toEqual([[], 2]);
  });

  it("tries again by itself when the line broke, at once when the network is back", async () => {
    const { sent, give } = line();
    const outbox = new Outbox("lobby", () => undefined, give);
    outbox.offer([file("a")], "Ana");
    await sent[0]!.fail(unreachable());
    expect(states(outbox)).toEqual(["a breaks"]);
    vi.advanceTimersByTime(1_000);
    expect([states(outbox), sent.length]).toEqual([["a sends"], 2]);
    await sent[1]!.fail(unreachable());
    outbox.hurry();
    expect([states(outbox), sent.length]).toEqual([["a sends"], 3]);
  });

  it("waits as long as a busy relay asks", async () => {
    const { sent, give } = line();
    const outbox = new Outbox("lobby", () => undefined, give);
    outbox.offer([file("a")], "Ana");
    await sent[0]!.fail(new Problem(503, "Busy.", undefined, 5_000));
    vi.advanceTimersByTime(4_999);
    expect(sent.length).toBe(1);
    vi.advanceTimersByTime(1);
    expect(sent.length).toBe(2);
  });

  it("asks a person when no byte gets through, and when the relay refuses", async () => {
    const { sent, give } = line();
    const outbox = new Outbox("lobby", () => undefined, give);
    outbox.offer([file("a")], "Ana");
    for (let i = 0; i < 5; i++) {
      await sent[i]!.fail(unreachable());
      vi.advanceTimersByTime(30_000);
    }
    await sent[5]!.fail(unreachable());
    expect([states(outbox), outbox.busy]).toEqual([["a refused"], false]);
    outbox.again(outbox.offers[0]!.key);
    await sent[6]!.fail(new Problem(507, "The disk is full."));
    vi.advanceTimersByTime(120_000);
    expect([states(outbox), outbox.offers[0]!.problem!.title, sent.length]).toEqual([
      ["a refused"],
      "The disk is full.",
      7,
    ]);
  });

  it("does not give up on a line that carries something each time", async () => {
    const { sent, give } = line();
    const outbox = new Outbox("lobby", () => undefined, give);
    outbox.offer([file("a")], "Ana");
    for (let i = 0; i < 20; i++) {
      sent[i]!.share(0.4);
      await sent[i]!.fail(unreachable());
      expect(states(outbox)).toEqual(["a breaks"]);
      vi.advanceTimersByTime(30_000);
    }
  });

  it("takes a body that did not arrive whole for a broken line, but not for ever", async () => {
    const { sent, give } = line();
    const outbox = new Outbox("lobby", () => undefined, give);
    outbox.offer([file("a")], "Ana");
    for (let i = 0; i < 6; i++) {
      sent[i]!.share(1);
      await sent[i]!.fail(new Problem(400, "The body did not arrive whole: send it again."));
      expect(states(outbox)).toEqual([i < 5 ? "a breaks" : "a refused"]);
      vi.advanceTimersByTime(30_000);
    }
  });

  it("tries everything again that was refused for want of a token", async () => {
    const { sent, give } = line();
    let token: string | undefined;
    const outbox = new Outbox("lobby", () => token, give);
    outbox.offer([file("a"), file("b")], "Ana");
    await sent[0]!.fail(new Problem(401, "Token."));
    await sent[1]!.fail(new Problem(401, "Token."));
    token = "secret";
    outbox.allowed();
    expect([states(outbox), sent[2]!.token]).toEqual([["a sends", "b waits"], "secret"]);
  });

  it("takes so many at a time and says how many were too many", () => {
    const { give } = line();
    const outbox = new Outbox("lobby", () => undefined, give);
    expect(
      outbox.offer(
        Array.from({ length: OFFERS_MAX + 3 }, (_, i) => file(`${i}`)),
        "Ana",
      ),
    ).toBe(3);
    expect(outbox.offers.length).toBe(OFFERS_MAX);
  });
});
