import { describe, expect, it } from "vitest";
import { PlayoutGauge, sample } from "../../src/webrtc/playout";

const report = (packets: number, bufferSeconds: number, samples: number): [string, Record<string, unknown>][] => [
  [
    "a",
    {
      type: "inbound-rtp",
      kind: "audio",
      packetsReceived: packets,
      bytesReceived: packets * 100,
      packetsLost: 0,
      jitterBufferDelay: bufferSeconds,
      jitterBufferEmittedCount: samples,
    },
  ],
  ["p", { type: "candidate-pair", nominated: true, currentRoundTripTime: 0.02 }],
  ["q", { type: "candidate-pair", nominated: false, currentRoundTripTime: 9 }],
];

describe("playout", () => {
  it("measures the delay of what was played since the last reading", () => {
    const gauge = new PlayoutGauge();
    gauge.take(sample(report(50, 48_000 * 5, 48_000), 0));
    // 24,000 samples more, which waited 40 ms each.
    const playout = gauge.take(sample(report(75, 48_000 * 5 + 24_000 * 0.04, 72_000), 500));
    expect(playout.lateMs).toBe(50);
    expect(playout.kbps).toBe(40);
    expect(playout.quietMs).toBe(0);
  });

  it("counts the quiet from the last packet", () => {
    const gauge = new PlayoutGauge();
    expect(gauge.take(sample(report(0, 0, 0), 0)).quietMs).toBeUndefined();
    gauge.take(sample(report(10, 0, 0), 500));
    expect(gauge.take(sample(report(10, 0, 0), 2_500)).quietMs).toBe(2_000);
  });

  it("starts over with a new connection, without a wild figure", () => {
    const gauge = new PlayoutGauge();
    gauge.take(sample(report(1_000, 0, 0), 0));
    const playout = gauge.take(sample(report(5, 0, 0), 500));
    expect(playout.kbps).toBe(0);
    expect(playout.quietMs).toBe(0);
  });

  it("does not fail on statistics of another browser", () => {
    const playout = new PlayoutGauge().take(
      sample([["x", { type: "inbound-rtp", kind: "audio", packetsReceived: "many", jitterBufferDelay: NaN }]], 0),
    );
    expect(playout).toMatchObject({ quietMs: undefined, lateMs: undefined, kbps: 0, loss: 0, level: 0 });
  });
});
