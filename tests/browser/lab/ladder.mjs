// What a wire has room for.
import { THREE } from "./films.mjs";

/** kbit/s of the sound of each stage in the lab. */
export const SOUND = 96;
/** Headers of RTP, UDP and IP, as a part of what they carry. */
export const HEADERS = 1.04;

/** The height of the best encoding that a wire of so many kbit/s carries with the sound; 0 if none. */
export function best(kbit, encodings = THREE) {
  return encodings.findLast((one) => (one.kbps + SOUND) * HEADERS <= kbit)?.height ?? 0;
}
