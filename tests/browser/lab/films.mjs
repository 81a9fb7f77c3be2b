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
/** Seconds from one keyframe to the next, unless it is asked otherwise. */
const KEYFRAMES = 2;
const RATE = 30;

/** How ffmpeg is asked for each codec: quickly, without frames that are not shown. */
const CODECS = {
  vp8: [
    "-c:v",
    "libvpx",
    "-auto-alt-ref",
    "0",
    "-lag-in-frames",
    "0",
    "-deadline",
    "realtime",
    "-cpu-used",
    "8",
  ].concat(["-qmax", "63"]),
  vp9: ["-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-lag-in-frames", "0", "-deadline", "realtime"].concat([
    ...["-cpu-used", "8", "-qmax", "63"],
  ]),
  av1: ["-c:v", "libaom-av1", "-usage", "realtime", "-lag-in-frames", "0", "-cpu-used", "8", "-qmax", "63"],
};

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
 * a small one with much noise costs more than asked. Keyframes of VP8 can be filled up to so many octets.
 */
export function film({ width, height, kbps, codec = "vp8", keyframes = KEYFRAMES, fill = 0 }) {
  const extra = `${keyframes === KEYFRAMES ? "" : `-every${keyframes}`}${fill ? `-fill${fill}` : ""}`;
  const path = join(FILMS, `${codec}-${width}x${height}-${kbps}${extra}.ivf`);
  if (existsSync(path)) return path;
  mkdirSync(FILMS, { recursive: true });
  const rate = `${kbps}k`;
  const whole = `${path}.part`;
  const distance = String(keyframes * RATE);
  const bounds = ["-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate];
  const every = ["-g", distance, "-keyint_min", distance, "-pix_fmt", "yuv420p"];
  make({ width, height, kbps }, BEGIN + SECONDS, [...CODECS[codec], ...bounds, ...every, "-f", "ivf", whole]);
  const [header, ...frames] = split(readFileSync(whole));
  const kept = frames.slice(BEGIN * RATE).map((frame) => (fill > 0 ? filled(frame, fill) : frame));
  writeFileSync(whole, joined(header, kept));
  renameSync(whole, path);
  return path;
}

/** Gives the path of the scene as the camera of a Chromium has it: JPEGs in a row. */
export function camera({ width, height, kbps }) {
  const path = join(FILMS, `camera-${width}x${height}-${kbps}.mjpeg`);
  if (existsSync(path)) return path;
  mkdirSync(FILMS, { recursive: true });
  const whole = `${path}.part`;
  make({ width, height, kbps }, SECONDS, ["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p", "-f", "mjpeg", whole]);
  renameSync(whole, path);
  return path;
}

/** Has ffmpeg make the scene, with so much noise as costs so many kbit/s. */
function make({ width, height, kbps }, seconds, how) {
  const noise = Math.round((kbps * 1000) / (width * height) + 4);
  const source = `testsrc2=size=${width}x${height}:rate=${RATE},noise=alls=${noise}:allf=t`;
  const from = ["-v", "error", "-y", "-f", "lavfi", "-i", source, "-t", String(seconds)];
  const made = spawnSync(ffmpeg(), [...from, ...how], { encoding: "utf8" });
  if (made.status !== 0) throw new Error(`ffmpeg: ${made.stderr}`);
}

/** The header of an IVF file, and its frames. */
function split(file) {
  const parts = [file.subarray(0, 32)];
  for (let at = 32; at < file.length; ) {
    const length = file.readUInt32LE(at);
    parts.push(file.subarray(at + 12, at + 12 + length));
    at += 12 + length;
  }
  return parts;
}

function joined(header, frames) {
  const out = [Buffer.from(header)];
  out[0].writeUInt32LE(frames.length, 24);
  for (const [count, frame] of frames.entries()) {
    const head = Buffer.alloc(12);
    head.writeUInt32LE(frame.length, 0);
    head.writeBigUInt64LE(BigInt(count), 4);
    out.push(head, frame);
  }
  return Buffer.concat(out);
}

/** A keyframe of VP8 with zeros behind it: its last partition ends where the frame ends, and a decoder passes over them. */
function filled(frame, octets) {
  const isKeyframe = (frame[0] & 1) === 0;
  return isKeyframe && frame.length < octets ? Buffer.concat([frame, Buffer.alloc(octets - frame.length)]) : frame;
}
