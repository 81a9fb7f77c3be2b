// What really comes out of the speaker, from two samples of a connection's statistics: whether packets
// arrive, how late they sound, how much flows. Pure: the samples and the time are arguments.
import type { SoundReading } from "./sound-path";

/** One reading of the statistics that matter, summed over the tracks received. */
export interface Sample {
  at: number;
  packets: number;
  bytes: number;
  lost: number;
  /** Seconds that emitted audio samples spent in the jitter buffer, and how many samples. */
  bufferSeconds: number;
  bufferSamples: number;
  /** Seconds to the relay and back. */
  roundTrip: number | undefined;
  frames: number;
  /** Of the sound alone. */
  sound: { packets: number; bytes: number; lost: number; asked: number; concealed: number };
  /** Energy of the sound played, and the seconds it took. */
  energy: number;
  energySeconds: number;
}

export interface Playout {
  /** Milliseconds since the last packet came; undefined before the first. */
  quietMs: number | undefined;
  /** From the relay to the ear: half a round trip and the time spent buffered. */
  lateMs: number | undefined;
  kbps: number;
  /** Share of packets lost since the last reading, 0 to 1. */
  loss: number;
  frames: number;
  /** Of the sound alone; undefined in the first reading. */
  sound: SoundReading | undefined;
  /** Loudness of what was played since the last reading, 0 to 1 (root mean square). */
  level: number;
}

const number = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : 0);

export function sample(report: Iterable<[string, Record<string, unknown>]>, at: number): Sample {
  const out: Sample = {
    at,
    packets: 0,
    bytes: 0,
    lost: 0,
    bufferSeconds: 0,
    bufferSamples: 0,
    roundTrip: undefined,
    frames: 0,
    sound: { packets: 0, bytes: 0, lost: 0, asked: 0, concealed: 0 },
    energy: 0,
    energySeconds: 0,
  };
  for (const [, entry] of report) {
    if (entry.type === "inbound-rtp") {
      out.packets += number(entry.packetsReceived);
      out.bytes += number(entry.bytesReceived);
      out.lost += number(entry.packetsLost);
      out.frames += number(entry.framesDecoded);
      if (entry.kind === "audio") {
        out.sound.packets += number(entry.packetsReceived);
        out.sound.bytes += number(entry.bytesReceived);
        out.sound.lost += number(entry.packetsLost);
        out.sound.asked += number(entry.nackCount);
        out.sound.concealed += number(entry.concealedSamples) - number(entry.silentConcealedSamples);
        out.bufferSeconds += number(entry.jitterBufferDelay);
        out.bufferSamples += number(entry.jitterBufferEmittedCount);
        out.energy += number(entry.totalAudioEnergy);
        out.energySeconds += number(entry.totalSamplesDuration);
      }
    } else if (
      entry.type === "candidate-pair" &&
      entry.nominated === true &&
      typeof entry.currentRoundTripTime === "number"
    ) {
      out.roundTrip = entry.currentRoundTripTime;
    }
  }
  return out;
}

/** Follows the samples of one player. */
export class PlayoutGauge {
  private last: Sample | undefined;
  private packetAt: number | undefined;

  /** A new connection counts from zero. */
  reset(): void {
    this.last = undefined;
  }

  take(next: Sample): Playout {
    const last = this.last && next.packets >= this.last.packets ? this.last : undefined;
    this.last = next;
    const packets = next.packets - (last?.packets ?? 0);
    if (packets > 0) this.packetAt = next.at;
    const seconds = last ? (next.at - last.at) / 1000 : 0;
    const samples = next.bufferSamples - (last?.bufferSamples ?? 0);
    const buffered = samples > 0 ? (next.bufferSeconds - (last?.bufferSeconds ?? 0)) / samples : undefined;
    const lost = Math.max(next.lost - (last?.lost ?? 0), 0);
    return {
      quietMs: this.packetAt === undefined ? undefined : next.at - this.packetAt,
      lateMs: buffered === undefined ? undefined : Math.round((buffered + (next.roundTrip ?? 0) / 2) * 1000),
      kbps: last && seconds > 0 ? Math.round(((next.bytes - last.bytes) * 8) / 1000 / seconds) : 0,
      loss: packets + lost > 0 ? lost / (packets + lost) : 0,
      frames: next.frames,
      sound: last && soundOf(last, next),
      level: last ? rms(next.energy - last.energy, next.energySeconds - last.energySeconds) : 0,
    };
  }
}

/** Opus plays at 48 kHz in every browser. */
const SAMPLES_PER_MS = 48;

function soundOf(last: Sample, next: Sample): SoundReading {
  const grown = (name: keyof Sample["sound"]) => Math.max(next.sound[name] - last.sound[name], 0);
  const ms = next.at - last.at;
  return {
    kbps: ms > 0 ? (grown("bytes") * 8) / ms : 0,
    packets: grown("packets"),
    // What was asked for and came is counted as lost by no browser.
    lost: Math.max(grown("lost"), grown("asked")),
    concealedMs: grown("concealed") / SAMPLES_PER_MS,
  };
}

const rms = (energy: number, seconds: number) =>
  energy > 0 && seconds > 0 ? Math.min(Math.sqrt(energy / seconds), 1) : 0;

/** What is measured, for people: `128 kbit/s · 62 ms to your ear`. */
export function figures(playout: Playout): string {
  const parts = [`${playout.kbps} kbit/s`];
  if (playout.lateMs !== undefined) parts.push(`${playout.lateMs} ms to your ear`);
  if (playout.loss >= 0.005) parts.push(`${(playout.loss * 100).toFixed(1)} % lost`);
  return parts.join(" · ");
}

/** How bright lights are that show a {@link Playout.level}, 0 to 1: -40 dB and less is dark. */
export const brightness = (level: number) => (level > 0.01 ? Math.min(1 + Math.log10(level) / 2 + 0.15, 1) : 0);
