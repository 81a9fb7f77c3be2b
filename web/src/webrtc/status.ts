// The one honest line under the player, decided from what is known. Pure.
import { codecName } from "../api/names";
import type { Track } from "../api/types";
import type { Reason } from "./quality";
import type { Port } from "./sdp";
import { CONNECT_MS, type Phase, type State } from "./session";
import type { SoundPath } from "./sound-path";

export interface Known {
  phase: Phase;
  /** The relay's refusal, when there is one. */
  problem: string | undefined;
  /** The stream is in the relay's list; undefined until a list came. */
  listed: boolean | undefined;
  /** Milliseconds since the last packet; undefined before the first. */
  quietMs: number | undefined;
  lateMs: number | undefined;
  /** What the way here does to the sound; undefined before it was measured. */
  soundPath: SoundPath | undefined;
  /** This zone has lost its links to all others. */
  cutOff: boolean;
  /** The browser would not start the element by itself. */
  needsTap: boolean;
  /** Milliseconds for which there has been nothing to hear, since it was asked for. */
  waitedMs: number;
  /** Where the relay takes media; empty before it answered. */
  ports: readonly Port[];
  /** What of the stream this browser does not play. */
  lacks: readonly Track[];
  /** How many tracks the stream has. */
  tracks: number;
}

/** good: sound as it should be. wait: something is being mended. off: there is nothing to hear. */
export type Tone = "good" | "wait" | "off";

export interface Status {
  tone: Tone;
  text: string;
  /** What to know besides, or to do about it. */
  note?: string;
}

/** Longer without a packet is not jitter any more. */
const QUIET_MS = 1_500;
/** Below, nobody notices; the figure would only unsettle. */
const LATE_MS = 1_000;

export function statusOf(known: Known): Status {
  const lacking = cannot(known.lacks);
  const nothing = known.lacks.length === known.tracks && ["refused", "connected"].includes(known.phase);
  if (lacking && nothing) return { tone: "off", text: "Not for this browser", note: lacking };
  if (heldBack(known)) return { tone: "off", text: SILENT_WAY, note: wayOf(known.ports) };
  const status = plain(known);
  return lacking && known.phase === "connected" ? { ...status, note: lacking } : status;
}

const SILENT_WAY = "The page arrives, the sound does not";

/** The relay answers over HTTP, and its media does not get here. */
export function heldBack(
  known: Pick<Known, "phase" | "problem" | "ports" | "waitedMs" | "quietMs" | "listed">,
): boolean {
  if (known.problem !== undefined || known.ports.length === 0 || known.waitedMs < CONNECT_MS) return false;
  if (known.phase === "connecting" || known.phase === "reconnecting") return true;
  return known.phase === "connected" && known.quietMs === undefined && known.listed === true;
}

/** What somebody who can open a firewall has to know. */
export function wayOf(ports: readonly Port[]): string {
  const numbers = [...new Set(ports.map((one) => one.port))].join(", ");
  const addresses = [...new Set(ports.map((one) => one.address))].slice(0, 3).join(" or ");
  return `Something between you and the relay holds back UDP to ${addresses}, port ${numbers}. Another Wi-Fi may help; the crew can open the port.`;
}

/** `This browser cannot show H264.` */
export function cannot(lacks: readonly Track[]): string | undefined {
  const names = (kind: string) => lacks.filter((track) => track.kind === kind).map((track) => codecName(track.codec));
  const parts = [...names("video").map((name) => `show ${name}`), ...names("audio").map((name) => `play ${name}`)];
  return parts.length > 0 ? `This browser cannot ${parts.join(" or ")}.` : undefined;
}

function plain(known: Known): Status {
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
  const { rung, mending, reason } = known.soundPath ?? {};
  if (rung !== undefined) return { tone: "good", text: `Sound at ${rung}k: ${lessBecause(reason)}` };
  if (mending) return { tone: "good", text: "Live, mending losses" };
  if (known.cutOff) return { tone: "good", text: "Local only" };
  return { tone: "good", text: "Live" };
}

function lessBecause(reason: Reason | undefined): string {
  if (reason === "wish") return "as you asked";
  return reason === "bridge" ? "a link is full" : "weak link";
}

/** The line of a publisher; `stuck`: its media does not get to the relay. */
export function airStatus(state: State, stuck: boolean, ports: readonly Port[]): Status {
  const tone = state.phase === "connected" ? "good" : state.phase === "refused" ? "off" : "wait";
  if (stuck) return { tone, text: "The page arrives, the sound does not leave", note: wayOf(ports) };
  return { tone, text: airLine(state) };
}

function airLine({ phase, problem }: State): string {
  switch (phase) {
    case "connected":
      return "On air";
    case "refused":
    case "waiting":
      return problem?.message ?? "The relay refused.";
    case "reconnecting":
      return "Reconnecting: listeners stay for 30 s";
    default:
      return "Connecting";
  }
}
