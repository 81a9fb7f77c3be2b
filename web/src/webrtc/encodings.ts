// In which encodings a picture is sent, how large each is and how much it may take (RFC 8853), and what leaves of each.

/** What is known of the picture before it is encoded. */
export interface Picture {
  width?: number | undefined;
  height?: number | undefined;
  frameRate?: number | undefined;
  /** A screen has letters to read: it is not made as small as a camera. */
  screen: boolean;
}

export interface Encoding {
  /** Missing if there is only one encoding. */
  rid?: string;
  /** By what width and height are divided. */
  divisor: number;
  maxBitrate: number;
}

/** What leaves of one encoding. */
export interface Outgoing {
  rid: string | undefined;
  width: number | undefined;
  height: number | undefined;
  kbps: number;
  /** The browser has stopped it, because the path or the processor has no room for it. */
  paused: boolean;
}

export function pictureOf(track: MediaStreamTrack): Picture {
  const { width, height, frameRate } = track.getSettings();
  return { width, height, frameRate, screen: track.contentHint === "detail" };
}

/** The smallest one first: a browser shares out what the path has in this order. */
export function encodingsOf(picture: Picture): Encoding[] {
  const { steps, leastWidth } = picture.screen ? SCREEN : CAMERA;
  // A phone that is held upright has the same picture as one that is not.
  const width = Math.max(picture.width ?? 0, picture.height ?? 0);
  const sent = steps.filter(({ divisor }) => divisor === 1 || width / divisor >= leastWidth);
  if (sent.length === 1) return [ONE];
  const whole = Math.min(bitrateOf(picture), MAX_BITRATE);
  return sent.map((step) => ({ ...step, maxBitrate: rounded(whole * step.divisor ** (-2 * EXPONENT)) }));
}

/** Adds the track in these encodings, or in one where the browser refuses several. */
export function addPicture(
  peer: RTCPeerConnection,
  track: MediaStreamTrack,
  stream: MediaStream,
  encodings: Encoding[],
): RTCRtpTransceiver {
  const add = (sent: Encoding[], layers: boolean) =>
    peer.addTransceiver(track, {
      direction: "sendonly",
      streams: [stream],
      sendEncodings: sent.map((encoding) => parametersOf(encoding, layers)),
    });
  for (const layers of [true, false]) {
    try {
      return add(encodings, layers);
    } catch {
      // It does not know these layers, or takes one encoding only.
    }
  }
  return add([ONE], false);
}

/** Compares one reading of a connection's statistics with the one before. */
export class Outgoings {
  private last = new Map<unknown, { at: number; bytes: number; frames: number; sentAt: number }>();

  /** The largest first. What was never sent has the size that it would have of this picture. */
  read(entries: Iterable<Record<string, unknown>>, picture: Picture | undefined, now: number): Outgoing[] {
    const found: Outgoing[] = [];
    const next: typeof this.last = new Map();
    for (const entry of entries) {
      if (entry.type !== "outbound-rtp" || entry.kind !== "video") continue;
      // The relay did not take this one.
      if (entry.active === false) continue;
      const bytes = Number(entry.bytesSent ?? 0);
      // Not bytes: repeats with which a browser probes the path are no picture.
      const frames = Number(entry.framesEncoded ?? 0);
      const last = this.last.get(entry.ssrc);
      const sentAt = last && frames === last.frames ? last.sentAt : frames === 0 ? Number.NEGATIVE_INFINITY : now;
      next.set(entry.ssrc, { at: now, bytes, frames, sentAt });
      const rid = entry.rid as string | undefined;
      found.push({
        rid,
        width: (entry.frameWidth as number | undefined) ?? divided(picture?.width, rid),
        height: (entry.frameHeight as number | undefined) ?? divided(picture?.height, rid),
        kbps: last && now > last.at ? Math.max(0, Math.round(((bytes - last.bytes) * 8) / (now - last.at))) : 0,
        paused: now - sentAt > PAUSED_MS,
      });
    }
    this.last = next;
    return found.sort((a, b) => RIDS.indexOf(b.rid ?? "") - RIDS.indexOf(a.rid ?? ""));
  }
}

/** Larger pictures are more alike from pixel to pixel: they take less for each. */
function bitrateOf({ width, height, frameRate }: Picture): number {
  const pixels = (width || 1280) * (height || 720) * (frameRate || 30);
  return BITRATE_720P * (pixels / (1280 * 720 * 30)) ** EXPONENT;
}

function divided(pixels: number | undefined, rid: string | undefined): number | undefined {
  const divisor = STEPS.find((step) => step.rid === rid)?.divisor ?? 1;
  return pixels === undefined ? undefined : Math.round(pixels / divisor);
}

const rounded = (bitrate: number) => Math.round(bitrate / 10_000) * 10_000;

function parametersOf({ rid, divisor, maxBitrate }: Encoding, layers: boolean): RTCRtpEncodingParameters {
  return {
    ...(rid ? { rid, scaleResolutionDownBy: divisor } : {}),
    maxBitrate,
    // Where there is one encoding, the relay leaves out frames of it for listeners with a narrow path.
    ...(layers ? { scalabilityMode: "L1T3" } : {}),
  } as RTCRtpEncodingParameters;
}

const BITRATE_720P = 2_000_000;
const EXPONENT = 0.9;
const MAX_BITRATE = 4_000_000;
/** The whole picture, for a browser or a relay that takes one encoding. */
export const ONE: Encoding = { divisor: 1, maxBitrate: 2_500_000 };

const STEPS = [
  { rid: "l", divisor: 4 },
  { rid: "m", divisor: 2 },
  { rid: "h", divisor: 1 },
];
const RIDS = STEPS.map(({ rid }) => rid);
const CAMERA = { steps: STEPS, leastWidth: 320 };
const SCREEN = { steps: STEPS.slice(1), leastWidth: 640 };

/** A screen on which nothing moves is still sent once a second. */
const PAUSED_MS = 2_500;
