// What the way here does to the sound, as the relay says it, or else as the browser's statistics show it: whether losses are
// being mended, and whether the relay sends one of its lower rungs (docs/media.md, The ladder). Pure: readings and the time
// are arguments.
import type { Reason, ToldSound } from "./quality";

/** What came of the sound since the last reading. */
export interface SoundReading {
  kbps: number;
  packets: number;
  /** Packets that did not come, or not before they were asked for again. */
  lost: number;
  /** Milliseconds that the browser made up, without those in silence. */
  concealedMs: number;
}

export interface SoundPath {
  /** Something was lost lately: what is mended comes later than what is not. */
  mending: boolean;
  /** The rung that comes instead of more, in kbit/s; undefined while all of it comes. */
  rung: 24 | 64 | undefined;
  /** Why it is one, where the relay said so. */
  reason?: Reason;
}

/** What is known from both. The relay knows what it sends, and the browser alone what it lost. */
export function pathOf(measured: SoundPath | undefined, told: ToldSound | undefined): SoundPath | undefined {
  if (!told) return measured;
  return { mending: told.mending || measured?.mending === true, rung: told.rung, reason: told.reason };
}

/** What a sound is kept for before it plays, in milliseconds: nothing, for who stands at the stage. */
export const STORE_MS = 0;
/** And while losses are mended: packets come again 20 and 60 ms later. */
export const MENDING_STORE_MS = 80;

/** So many readings with losses in {@link SOON_MS} are no accident. */
const OFTEN = 2;
const SOON_MS = 5_000;
/** Without losses for so long, nothing is being mended any more. */
const MENDED_MS = 20_000;
/** Less is made up in a reading where clocks differ, and nobody hears it. */
const HEARD_MS = 5;
/** What is averaged: music has quiet moments. */
const READINGS = 8;
/** What is sent varies by so much around what an encoder was told. */
const VARIES = 0.12;
/** What comes instead of a rung takes at least so many times as much. */
const RICHER = 1.25;

/** Follows the sound of one session. */
export class SoundPathGauge {
  /** When something was lost: the last {@link OFTEN} times. */
  private losses: number[] = [];
  private until = Number.NEGATIVE_INFINITY;
  private rates: number[] = [];
  private best = 0;

  take(reading: SoundReading, now: number): SoundPath {
    if (reading.packets > 0 && (reading.lost > 0 || reading.concealedMs >= HEARD_MS)) {
      this.losses = [...this.losses, now].slice(-OFTEN);
      const often = this.losses.length === OFTEN && now - this.losses[0]! <= SOON_MS;
      // Once it is known that something is lost, one loss is enough to go on.
      if (often || now < this.until) this.until = now + MENDED_MS;
    }
    return { mending: now < this.until, rung: this.rung(reading) };
  }

  private rung({ kbps, packets }: SoundReading): SoundPath["rung"] {
    // A stage that is silent says nothing about the way here.
    if (packets === 0) this.rates = [];
    else this.rates = [...this.rates, kbps].slice(-READINGS);
    if (this.rates.length < READINGS) return undefined;
    const mean = this.rates.reduce((sum, rate) => sum + rate, 0) / READINGS;
    this.best = Math.max(this.best, mean);
    if (this.best < mean * RICHER) return undefined;
    return ([24, 64] as const).find((rate) => Math.abs(mean - rate) <= rate * VARIES);
  }
}
