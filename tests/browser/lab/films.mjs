// Films for the lab: one scene in several encodings, each as dear as it is asked to be. Made once, kept in `.cache/films`.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./lab.mjs";

const FILMS = join(ROOT, ".cache/films");
/** Seconds until a film begins anew. */
const SECONDS = 16;
/** An encoder needs so long until its keyframes are as small as the rate wants: they are left out. */
const BEGIN = 8;
/** Seconds from one keyframe to the next. */
const KEYFRAMES = 2;
const RATE = 30;

const CODEC = ["-c:v", "libvpx", "-auto-alt-ref", "0", "-lag-in-frames", "0"];

/** The encodings of the table: rid, size, kbit/s. */
export const THREE = [
  { rid: "l", width: 320, height: 180, kbps: 120 },
  { rid: "m", width: 640, height: 360, kbps: 600 },
  { rid: "h", width: 1280, height: 720, kbps: 2000 },
];

function ffmpeg() {
  const recorded = join(ROOT, ".cache/python/ffmpeg");
  if (!existsSync(recorded)) throw new Error("there is no ffmpeg: script/setup interop puts it there");
  return readFileSync(recorded, "utf8").trim();
}

/**
 * Gives the path of a film. The noise in it is what makes it as dear as asked: a test picture alone costs too little, and
 * a small one with much noise costs more than asked.
 */
export function film({ width, height, kbps }) {
  const path = join(FILMS, `vp8-${width}x${height}-${kbps}.ivf`);
  if (existsSync(path)) return path;
  mkdirSync(FILMS, { recursive: true });
  const rate = `${kbps}k`;
  const noise = Math.round((kbps * 1000) / (width * height) + 4);
  const source = `testsrc2=size=${width}x${height}:rate=${RATE},noise=alls=${noise}:allf=t`;
  const whole = `${path}.part`;
  const made = spawnSync(
    ffmpeg(),
    ["-v", "error", "-y", "-f", "lavfi", "-i", source, "-t", String(BEGIN + SECONDS), ...CODEC].concat(
      ["-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate, "-qmax", "63"],
      ["-g", String(KEYFRAMES * RATE), "-keyint_min", String(KEYFRAMES * RATE), "-deadline", "realtime"],
      ["-cpu-used", "8", "-f", "ivf", whole],
    ),
    { encoding: "utf8" },
  );
  if (made.status !== 0) throw new Error(`ffmpeg: ${made.stderr}`);
  writeFileSync(whole, behind(readFileSync(whole), BEGIN * RATE));
  renameSync(whole, path);
  return path;
}

/** An IVF file without its first frames. */
function behind(file, frames) {
  let at = 32;
  for (let skipped = 0; skipped < frames; skipped++) at += 12 + file.readUInt32LE(at);
  const out = Buffer.concat([file.subarray(0, 32), file.subarray(at)]);
  let count = 0;
  for (let next = 32; next < out.length; next += 12 + out.readUInt32LE(next)) {
    out.writeBigUInt64LE(BigInt(count), next + 4);
    count += 1;
  }
  out.writeUInt32LE(count, 24);
  return out;
}
