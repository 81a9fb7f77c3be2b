// The level of captured sound: two bars in dBFS that fall slowly, peaks that hold, a clip light.
import workletUrl from "./meter-worklet.ts?worker&url";

export const FLOOR_DB = -60;
/** How fast a bar falls: about what a peak programme meter does. */
const FALL_DB_PER_S = 20;
const HOLD_MS = 1_500;
export const CLIP_LIGHT_MS = 3_000;

export interface Levels {
  /** Left and right, dBFS, FLOOR_DB at the least. */
  db: [number, number];
  hold: [number, number];
  clipping: boolean;
  /** What the source really has: 1 is mono shown twice. */
  channels: number;
}

export const toDb = (peak: number) => (peak <= 0 ? FLOOR_DB : Math.max(FLOOR_DB, 20 * Math.log10(peak)));

/** The movement of the needles; pure, so that it can be tested without a sound card. */
export class Ballistics {
  private db: [number, number] = [FLOOR_DB, FLOOR_DB];
  private hold: [number, number] = [FLOOR_DB, FLOOR_DB];
  private holdAt: [number, number] = [0, 0];
  private clipAt: number | undefined;
  private channels = 0;
  private at: number | undefined;

  take(report: { peaks: number[]; clipped: boolean; channels: number }, now: number): void {
    const fall = this.at === undefined ? 0 : (Math.max(now - this.at, 0) / 1000) * FALL_DB_PER_S;
    this.at = now;
    this.channels = report.channels;
    if (report.clipped) this.clipAt = now;
    for (const side of [0, 1] as const) {
      const level = toDb(report.peaks[side] ?? 0);
      this.db[side] = Math.max(level, this.db[side] - fall, FLOOR_DB);
      if (level >= this.hold[side]) {
        this.hold[side] = level;
        this.holdAt[side] = now;
      } else if (now - this.holdAt[side] > HOLD_MS) {
        this.hold[side] = Math.max(this.hold[side] - fall, this.db[side]);
      }
    }
  }

  read(now: number): Levels {
    return {
      db: [...this.db],
      hold: [...this.hold],
      clipping: this.clipAt !== undefined && now - this.clipAt < CLIP_LIGHT_MS,
      channels: this.channels,
    };
  }
}

/** Listens to a captured stream until it is closed. */
export class Meter {
  private readonly ballistics = new Ballistics();
  private node: AudioWorkletNode | undefined;
  private source: MediaStreamAudioSourceNode | undefined;
  private closed = false;

  private constructor(private readonly audio: AudioContext) {}

  static async open(media: MediaStream): Promise<Meter> {
    const meter = new Meter(new AudioContext({ sampleRate: 48_000, latencyHint: "interactive" }));
    await meter.audio.audioWorklet.addModule(workletUrl);
    if (meter.closed) return meter;
    void meter.audio.resume();
    meter.source = meter.audio.createMediaStreamSource(media);
    meter.node = new AudioWorkletNode(meter.audio, "meter", {
      numberOfInputs: 1,
      numberOfOutputs: 0,
      channelCountMode: "max",
    });
    meter.node.port.onmessage = (event) => meter.ballistics.take(event.data, performance.now());
    meter.source.connect(meter.node);
    return meter;
  }

  read(now: number): Levels {
    return this.ballistics.read(now);
  }

  close(): void {
    this.closed = true;
    this.source?.disconnect();
    void this.audio.close();
  }
}
