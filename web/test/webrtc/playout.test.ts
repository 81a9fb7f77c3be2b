import { describe, expect, it } from "vitest";
import { brightness, figures, PlayoutGauge, sample } from "../../src/webrtc/playout";

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

  it("tells the sound apart from the picture", () => {
    const both = (packets: number, lost: number, concealed: number): [string, Record<string, unknown>][] => {
      const counted = {
        type: "inbound-rtp",
        packetsReceived: packets,
        bytesReceived: packets * 160,
        packetsLost: lost,
      };
      const samples = { concealedSamples: concealed + 960, silentConcealedSamples: 960 };
      return [
        ["a", { ...counted, ...samples, kind: "audio" }],
        ["v", { ...counted, kind: "video", packetsLost: 500 }],
      ];
    };
    const gauge = new PlayoutGauge();
    expect(gauge.take(sample(both(100, 0, 0), 0)).sound).toBeUndefined();
    const { sound } = gauge.take(sample(both(125, 2, 1_920), 500));
    expect(sound).toEqual({ kbps: 64, packets: 25, lost: 2, concealedMs: 40 });
    const asked = both(130, 2, 1_920);
    asked[0]![1].nackCount = 3;
    expect(gauge.take(sample(asked, 600)).sound).toMatchObject({ lost: 3 });
    // What was counted as lost and came after all.
    expect(gauge.take(sample(both(150, 1, 1_920), 1_000)).sound).toMatchObject({ lost: 0, concealedMs: 0 });
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

  it("says what people want to know of it, loss only where there is some", () => {
    const playout = { quietMs: 0, lateMs: undefined, kbps: 128, loss: 0.004, frames: 0, sound: undefined, level: 0 };
    expect(figures(playout)).toBe("128 kbit/s");
    expect(figures({ ...playout, lateMs: 62, loss: 0.0123 })).toBe("128 kbit/s · 62 ms to your ear · 1.2 % lost");
  });

  it("is dark below -40 dB and brightest before full scale", () => {
    expect([0, 0.01, 0.1, 1].map((level) => brightness(level).toFixed(2))).toEqual(["0.00", "0.00", "0.65", "1.00"]);
  });
});
