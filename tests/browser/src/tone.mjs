// A tone with a different frequency left and right, as a file that Chromium plays as its microphone.
import { writeFile } from "node:fs/promises";

const RATE = 48_000;
/** Whole seconds of whole cycles, so that the loop has no click. */
const SECONDS = 4;
export const LEFT_HZ = 1_000;
export const RIGHT_HZ = 1_500;
/** -12 dBFS peak: nothing clips on the way. */
const PEAK = 0.25;

export async function writeTone(path) {
  const frames = RATE * SECONDS;
  const wav = Buffer.alloc(44 + frames * 4);
  wav.write("RIFF", 0);
  wav.writeUInt32LE(36 + frames * 4, 4);
  wav.write("WAVEfmt ", 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20); // PCM
  wav.writeUInt16LE(2, 22);
  wav.writeUInt32LE(RATE, 24);
  wav.writeUInt32LE(RATE * 4, 28);
  wav.writeUInt16LE(4, 32);
  wav.writeUInt16LE(16, 34);
  wav.write("data", 36);
  wav.writeUInt32LE(frames * 4, 40);
  for (let i = 0; i < frames; i++) {
    const at = 44 + i * 4;
    wav.writeInt16LE(Math.round(Math.sin((2 * Math.PI * LEFT_HZ * i) / RATE) * PEAK * 32_767), at);
    wav.writeInt16LE(Math.round(Math.sin((2 * Math.PI * RIGHT_HZ * i) / RATE) * PEAK * 32_767), at + 2);
  }
  await writeFile(path, wav);
}
