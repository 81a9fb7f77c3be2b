// The one honest line under the player, decided from what is known. Pure.
import type { Phase } from "./session";

export interface Known {
  phase: Phase;
  /** The relay's refusal, when there is one. */
  problem: string | undefined;
  /** The stream is in the relay's list; undefined until a list came. */
  listed: boolean | undefined;
  /** Milliseconds since the last packet; undefined before the first. */
  quietMs: number | undefined;
  lateMs: number | undefined;
  /** This zone has lost its links to all others. */
  cutOff: boolean;
  /** The browser would not start the element by itself. */
  needsTap: boolean;
}

/** good: sound as it should be. wait: something is being mended. off: there is nothing to hear. */
export type Tone = "good" | "wait" | "off";

export interface Status {
  tone: Tone;
  text: string;
}

/** Longer without a packet is not jitter any more. */
const QUIET_MS = 1_500;
/** Below, nobody notices; the figure would only unsettle. */
const LATE_MS = 1_000;

export function statusOf(known: Known): Status {
  switch (known.phase) {
    case "idle":
      return { tone: "off", text: known.listed === false ? "Stage is offline" : "Tap to listen" };
    case "refused":
      return { tone: "off", text: known.problem ?? "The relay refused." };
    case "waiting":
      return { tone: "off", text: known.listed ? "Waiting for the stage" : "Stage is offline" };
    case "connecting":
      return { tone: "wait", text: "Connecting" };
    case "reconnecting":
      return { tone: "wait", text: "Reconnecting" };
    case "connected":
      return connected(known);
  }
}

function connected(known: Known): Status {
  if (known.needsTap) return { tone: "wait", text: "Tap to hear it" };
  if (known.quietMs === undefined) return { tone: "wait", text: "Connecting" };
  if (known.quietMs > QUIET_MS) {
    return { tone: "off", text: known.listed === false ? "Stage is offline" : "Stage is silent" };
  }
  if (known.lateMs !== undefined && known.lateMs >= LATE_MS) {
    return { tone: "wait", text: `Late by ${(known.lateMs / 1000).toFixed(1)} s` };
  }
  if (known.cutOff) return { tone: "good", text: "Local only" };
  return { tone: "good", text: "Live" };
}
