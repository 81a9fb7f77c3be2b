// What the relay tells of a picture and of the sound: the encodings, which of them this listener gets and why. Pure:
// reads the data of events, whatever they hold.

export interface Size {
  width: number;
  height: number;
}

/** One encoding of the picture that the publisher sends now. */
export interface Encoding {
  id: string;
  /** Undefined where the relay does not know it. */
  size: Size | undefined;
}

export interface Encodings {
  /** From the best to the base. */
  active: Encoding[];
  /** How many more there are that are not sent now. */
  inactive: number;
}

/** Why it is this picture and no better one. */
export type Reason = "best" | "link" | "wish" | "publisher" | "bridge" | "none";

export interface Quality {
  /** What is sent; undefined if it is no picture. */
  video: Encoding | undefined;
  reason: Reason;
  /** Undefined where the relay says nothing of it. */
  sound: ToldSound | undefined;
}

/** What is sent of the sound. */
export interface ToldSound {
  /** One of the lower rates, in kbit/s; undefined for what the stage sends. */
  rung: 24 | 64 | undefined;
  reason: Reason;
  mending: boolean;
}

/** What is known of a picture besides itself. */
export interface Told {
  /** The relay takes wishes. */
  wishable: boolean;
  encodings: Encodings;
  /** Undefined until the relay said it. */
  quality: Quality | undefined;
}

export const NO_ENCODINGS: Encodings = { active: [], inactive: 0 };
export const UNTOLD: Told = { wishable: false, encodings: NO_ENCODINGS, quality: undefined };

const REASONS: readonly string[] = ["best", "link", "wish", "publisher", "bridge", "none"];
/** A picture has at most four; more than this nobody needs to look through. */
const MOST = 16;

/** Of the event `layers`, over all its pictures; undefined if it cannot be read. */
export function encodingsOf(data: string): Encodings | undefined {
  const pictures = parsed(data);
  if (!pictures) return undefined;
  const media = Object.values(pictures).map(fields);
  const active = media
    .flatMap((one) => list(one.active))
    .map(encoding)
    .filter((one) => one !== undefined);
  const inactive = media.reduce((sum, one) => sum + list(one.inactive).length, 0);
  return { active: active.slice(0, MOST), inactive: Math.min(inactive, MOST) };
}

/** Of the event `quality`; undefined if it cannot be read. */
export function qualityOf(data: string): Quality | undefined {
  const quality = parsed(data);
  if (!quality || !("video" in quality)) return undefined;
  return { video: encoding(quality.video), reason: reasonOf(quality.reason), sound: soundOf(quality.audio) };
}

const RUNGS: Readonly<Record<string, 24 | 64>> = { low: 24, mid: 64 };
const MENDING: readonly unknown[] = ["answers", "copies", "repeats"];

function soundOf(value: unknown): ToldSound | undefined {
  const { encodingId: id, reason, mending } = fields(value);
  if (typeof id !== "string") return undefined;
  const rung = Object.hasOwn(RUNGS, id) ? RUNGS[id] : undefined;
  return { rung, reason: reasonOf(reason), mending: MENDING.includes(mending) };
}

function reasonOf(value: unknown): Reason {
  return (typeof value === "string" && REASONS.includes(value) ? value : "none") as Reason;
}

function encoding(value: unknown): Encoding | undefined {
  const { encodingId: id, width, height } = fields(value);
  if (typeof id !== "string" || id === "" || id.length > 64) return undefined;
  return { id, size: pixels(width) && pixels(height) ? { width, height } : undefined };
}

const pixels = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0;
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const fields = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};

function parsed(data: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(data);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? fields(value) : undefined;
  } catch {
    return undefined;
  }
}
