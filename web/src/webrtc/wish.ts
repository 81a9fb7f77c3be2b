// What to ask the relay for: what the listener chose, and no more than the page can show. Pure.
import type { Encodings, Size } from "./quality";

/** What a listener can choose. */
export const CHOICES = ["best", "save", "sound"] as const;
export type PictureChoice = (typeof CHOICES)[number];

/** What was kept, or the best if that is no choice. */
export const choiceOf = (kept: string | undefined): PictureChoice => CHOICES.find((one) => one === kept) ?? "best";

/** The body of a request. Nothing in it: the best that fits. An encoding: at most this one. */
export interface Wish {
  video?: false;
  encodingId?: string;
  maxSpatialLayerId?: number;
  maxTemporalLayerId?: number;
}

export interface Situation {
  choice: PictureChoice;
  /** Nobody can see the page. */
  away: boolean;
  encodings: Encodings;
  /** How large the picture is drawn, in pixels of the screen; undefined until it was. */
  drawn: Size | undefined;
}

/** A picture that is drawn smaller than this share of what comes is larger than it has to be. */
const TOO_LARGE = 0.5;

export function wishOf({ choice, away, encodings, drawn }: Situation): Wish {
  if (away || choice === "sound") return { video: false };
  return choice === "save" ? base(encodings) : drawn ? fitting(encodings, drawn) : {};
}

/** The encoding that costs least; the smallest and fewest pictures of it, if it is the only one. */
function base({ active, inactive }: Encodings): Wish {
  const last = active.at(-1);
  if (!last) return {};
  const least = { maxSpatialLayerId: 0, maxTemporalLayerId: 0 };
  return active.length + inactive > 1 ? { encodingId: last.id } : { encodingId: last.id, ...least };
}

/** The smallest encoding with as many pixels as are drawn, if the best has far more. */
function fitting({ active }: Encodings, drawn: Size): Wish {
  const scales = active.flatMap(({ id, size }) => (size ? [{ id, scale: scaleOf(size, drawn) }] : []));
  if (!scales.some(({ scale }) => scale < TOO_LARGE)) return {};
  const enough = scales.filter(({ scale }) => scale <= 1).sort((a, b) => b.scale - a.scale)[0];
  return enough ? { encodingId: enough.id } : {};
}

/** By how much a picture grows to be drawn, whole, in a box. */
const scaleOf = (size: Size, box: Size) => Math.min(box.width / size.width, box.height / size.height);
