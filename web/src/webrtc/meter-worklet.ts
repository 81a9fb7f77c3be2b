// Runs on the audio thread: sees every sample, so that not one that clips goes unnoticed.

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, type: unknown): void;

/** Samples per report: about 21 ms at 48 kHz. */
const REPORT = 1_024;
/** From here on a 16-bit converter has nothing left. */
const CLIP = 0.999;

class Meter extends AudioWorkletProcessor {
  private peaks = [0, 0];
  private clipped = false;
  private count = 0;

  process(inputs: Float32Array[][]): boolean {
    const input = inputs[0] ?? [];
    for (let channel = 0; channel < 2; channel++) {
      const samples = input[channel] ?? input[0];
      if (!samples) continue;
      let peak = this.peaks[channel]!;
      for (let i = 0; i < samples.length; i++) {
        const level = Math.abs(samples[i]!);
        if (level > peak) peak = level;
      }
      this.peaks[channel] = peak;
      if (peak >= CLIP) this.clipped = true;
    }
    this.count += 128;
    if (this.count >= REPORT) {
      this.port.postMessage({ peaks: this.peaks, clipped: this.clipped, channels: input.length });
      this.peaks = [0, 0];
      this.clipped = false;
      this.count = 0;
    }
    return true;
  }
}

registerProcessor("meter", Meter);
