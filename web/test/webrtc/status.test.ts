import { describe, expect, it } from "vitest";
import { Problem } from "../../src/api/problem";
import { airStatus, type Known, statusOf } from "../../src/webrtc/status";

const LIVE: Known = {
  phase: "connected",
  problem: undefined,
  listed: true,
  quietMs: 20,
  lateMs: 60,
  soundPath: undefined,
  cutOff: false,
  needsTap: false,
  waitedMs: 20,
  ports: [],
  lacks: [],
  tracks: 2,
};
const text = (change: Partial<Known>) => statusOf({ ...LIVE, ...change }).text;

describe("status", () => {
  it("is live only while packets come", () => {
    expect(statusOf(LIVE)).toEqual({ tone: "good", text: "Live" });
    expect(text({ quietMs: undefined })).toBe("Connecting");
    expect(text({ quietMs: 1_600 })).toBe("Stage is silent");
  });

  it("tells a silent stage from one that is gone", () => {
    expect(text({ quietMs: 5_000, listed: false })).toBe("Stage is offline");
    expect(text({ phase: "waiting", listed: false })).toBe("Stage is offline");
    expect(text({ phase: "waiting", listed: true })).toBe("Waiting for the stage");
  });

  it("says how late it is once that can be noticed", () => {
    expect(text({ lateMs: 999 })).toBe("Live");
    expect(text({ lateMs: 2_340 })).toBe("Late by 2.3 s");
  });

  it("says what the way here does to the sound, and no more while all is well", () => {
    expect(text({ soundPath: { mending: false, rung: undefined } })).toBe("Live");
    expect(text({ soundPath: { mending: true, rung: undefined } })).toBe("Live, mending losses");
    const told = (reason: "wish" | "bridge" | "link") => text({ soundPath: { mending: false, rung: 24, reason } });
    expect(told("link")).toBe("Sound at 24k: weak link");
    expect(told("bridge")).toBe("Sound at 24k: a link is full");
    expect(told("wish")).toBe("Sound at 24k: as you asked");
    const weak = statusOf({ ...LIVE, soundPath: { mending: true, rung: 64 } });
    expect(weak).toEqual({ tone: "good", text: "Sound at 64k: weak link" });
    expect(text({ soundPath: { mending: true, rung: 24 }, quietMs: 5_000 })).toBe("Stage is silent");
  });

  it("says that this zone is cut off, even while its own stage plays", () => {
    expect(text({ cutOff: true })).toBe("Local only");
    expect(text({ cutOff: true, quietMs: 9_000 })).toBe("Stage is silent");
  });

  it("never claims to be live while it reconnects", () => {
    expect(statusOf({ ...LIVE, phase: "reconnecting" })).toEqual({ tone: "wait", text: "Reconnecting" });
  });

  it("asks for a tap when the browser holds the sound back", () => {
    expect(text({ needsTap: true })).toBe("Tap to hear it");
  });

  const PORTS = [
    { address: "10.0.0.5", port: "8080" },
    { address: "fd00::5", port: "8080" },
  ];

  it("says that UDP is held back once the way took too long, and where it leads", () => {
    for (const phase of ["connecting", "reconnecting"] as const) {
      expect(text({ phase, quietMs: undefined, ports: PORTS, waitedMs: 7_900 })).not.toContain("arrives");
      const status = statusOf({ ...LIVE, phase, quietMs: undefined, ports: PORTS, waitedMs: 8_000 });
      expect(status).toMatchObject({ tone: "off", text: "The page arrives, the sound does not" });
      expect(status.note).toContain("UDP to 10.0.0.5 or fd00::5, port 8080");
    }
    expect(text({ quietMs: undefined, ports: PORTS, waitedMs: 8_000 })).toBe("The page arrives, the sound does not");
  });

  it("does not blame the way for what the relay or the stage does", () => {
    const late = { ports: PORTS, waitedMs: 60_000 };
    expect(text({ ...late, quietMs: undefined, listed: false })).toBe("Connecting");
    expect(text({ ...late, quietMs: 60_000 })).toBe("Stage is silent");
    expect(text({ ...late, phase: "waiting" })).toBe("Waiting for the stage");
    expect(text({ ...late, phase: "reconnecting", problem: "The relay does not answer." })).toBe("Reconnecting");
    expect(text({ ...late, phase: "connecting", ports: [] })).toBe("Connecting");
    expect(text({ ...late, phase: "idle" })).toBe("Tap to listen");
  });

  it("says what this browser does not play of a stage that plays", () => {
    const h264 = { kind: "video", codec: "h264", layers: 1 } as const;
    const opus = { kind: "audio", codec: "opus", layers: 1 } as const;
    expect(statusOf({ ...LIVE, lacks: [h264] })).toEqual({
      tone: "good",
      text: "Live",
      note: "This browser cannot show H264.",
    });
    const gone = { tone: "off", text: "Not for this browser", note: "This browser cannot show H264." };
    // The publisher came back with something else on a session that stays.
    expect(statusOf({ ...LIVE, quietMs: undefined, waitedMs: 9_000, ports: PORTS, lacks: [h264], tracks: 1 })).toEqual(
      gone,
    );
    expect(statusOf({ ...LIVE, quietMs: 9_000, lacks: [h264], tracks: 1 })).toEqual(gone);
    const refused = statusOf({ ...LIVE, phase: "refused", problem: "This stream is H264 now.", lacks: [opus, h264] });
    expect(refused).toEqual({
      tone: "off",
      text: "Not for this browser",
      note: "This browser cannot show H264 or play Opus.",
    });
  });

  it("passes on what the relay refused", () => {
    expect(text({ phase: "refused", problem: "No such stream name." })).toBe("No such stream name.");
  });

  it("says of a publisher whether it is on air, and passes on why not", () => {
    const air = (phase: Known["phase"], problem?: Problem) => airStatus({ phase, problem }, false, []);
    expect(air("connected")).toEqual({ tone: "good", text: "On air" });
    expect(air("connecting")).toEqual({ tone: "wait", text: "Connecting" });
    expect(air("reconnecting").tone).toBe("wait");
    const taken = new Problem(409, "It is live from another zone.");
    expect(air("waiting", taken)).toEqual({ tone: "wait", text: "It is live from another zone." });
    expect(air("refused", taken)).toEqual({ tone: "off", text: "It is live from another zone." });
  });
});
