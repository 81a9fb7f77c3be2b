import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type OnAir, useOnAir } from "../../src/hooks/on-air";
import type { State } from "../../src/webrtc/session";
import type { Publisher } from "../../src/webrtc/whip";
import { type Staged, stage } from "./stage";

const CONNECTING: State = { phase: "connecting", problem: undefined };
const CONNECTED: State = { phase: "connected", problem: undefined };

describe("on air", () => {
  const check = vi.fn();
  const uplink = { kbps: 256, roundTripMs: 4, loss: 0, encodings: [] };
  let listed: string[];
  let air: Staged<State, OnAir>;
  const pass = (ms: number) => air.act(() => vi.advanceTimersByTimeAsync(ms));

  beforeEach(async () => {
    vi.useFakeTimers();
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    check.mockClear();
    listed = ["main-stage"];
    vi.stubGlobal("fetch", async () => Response.json(listed.map((name) => ({ name, listeners: 3 }))));
    const ports = [{ address: "192.0.2.7", port: "5000" }];
    const publisher = { stream: "main-stage", ports, check, measure: async () => uplink } as unknown as Publisher;
    air = await stage((state: State) => useOnAir(publisher, state), CONNECTING);
  });
  afterEach(async () => {
    await air.end();
    vi.useRealTimers();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  it("counts from when it was on air first, also through a reconnection", async () => {
    await pass(3_000);
    expect([air.now.elapsedMs, air.now.uplink]).toEqual([undefined, undefined]);
    await air.set(CONNECTED);
    await pass(5_000);
    expect([air.now.elapsedMs, air.now.uplink, air.now.stream?.listeners]).toEqual([5_000, uplink, 3]);
    await air.set({ phase: "reconnecting", problem: undefined });
    await pass(1_000);
    expect([air.now.elapsedMs, air.now.uplink]).toEqual([6_000, undefined]);
  });

  it("finds out that the relay was restarted when it is not listed twice in a row", async () => {
    await air.set(CONNECTED);
    listed = [];
    await pass(2_000);
    listed = ["main-stage"];
    await pass(2_000);
    listed = [];
    await pass(2_000);
    expect(check).not.toHaveBeenCalled();
    await pass(2_000);
    expect(check).toHaveBeenCalledTimes(1);
    await pass(10_000);
    expect(check).toHaveBeenCalledTimes(1);
  });

  it("says that the sound does not leave after eight seconds without a way, not after eight on air", async () => {
    await pass(7_000);
    expect(air.now.status.text).toBe("Connecting");
    await pass(1_000);
    expect(air.now.status).toMatchObject({ tone: "wait", text: "The page arrives, the sound does not leave" });
    await air.set(CONNECTED);
    await pass(20_000);
    await air.set({ phase: "reconnecting", problem: undefined });
    expect(air.now.status.text).toBe("Reconnecting: listeners stay for 30 s");
  });
});
