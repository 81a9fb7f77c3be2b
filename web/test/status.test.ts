import { describe, expect, it } from "vitest";
import { statusOf, type Known } from "../src/status";

const LIVE: Known = { phase: "connected", problem: undefined, listed: true, quietMs: 20, lateMs: 60, cutOff: false, needsTap: false };
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

  it("passes on what the relay refused", () => {
    expect(text({ phase: "refused", problem: "No such stream name." })).toBe("No such stream name.");
  });
});
