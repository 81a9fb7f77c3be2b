// Names of streams, rooms, codecs and zones: what the relay takes, and how people read them.
import type { Message } from "./types";

/** Where a message comes from, by the signature of its relay. */
export const origin = (message: Message): string =>
  message.zone_unproven ? `from a relay that says it is in zone ${message.zone}` : `from zone ${message.zone}`;

const SEGMENT = /^[a-z0-9-]{1,64}$/;

/** Why `name` cannot be a stream's name, or undefined when it can. */
export function streamNameFault(name: string): string | undefined {
  if (name === "") return "Give the stream a name, for example main-stage.";
  const segments = name.split("/");
  if (segments.length > 3) return "At most three parts, joined by /.";
  for (const segment of segments) {
    if (segment === "") return "A part of the name is empty: look at the slashes.";
    if (segment.length > 64) return "Each part has at most 64 characters.";
    if (!SEGMENT.test(segment)) return "Only a to z, 0 to 9 and hyphens, for example main-stage.";
  }
  return undefined;
}

/** The room that goes with a stream: its first segment. */
export function roomOf(stream: string | undefined): string {
  const first = stream?.split("/")[0];
  return first && SEGMENT.test(first) ? first : "lobby";
}

/** `main-stage/commentary` as people read it. */
export function spoken(name: string): string {
  return name
    .split("/")
    .map(
      (part) =>
        part
          .replace(/-+/g, " ")
          .trim()
          .replace(/^./, (c) => c.toUpperCase()) || part,
    )
    .join("\u00a0· "); // The dot ends a line, never begins one.
}

const CODECS: Record<string, string> = { opus: "Opus", vp8: "VP8", vp9: "VP9", h264: "H264", av1: "AV1" };

/** A codec as people write it. */
export const codecName = (codec: string) => CODECS[codec] ?? codec;
