// The line under the picture: what is shown and why it is not better, in about five words. Pure.
import type { Encodings, Quality, Size } from "./quality";
import type { PictureChoice, Wish } from "./wish";

export interface Shown {
  choice: PictureChoice;
  /** What the relay was asked for. */
  wish: Wish;
  encodings: Encodings;
  quality: Quality | undefined;
  /** What the browser draws, for an encoding whose size the relay does not know. */
  frame: Size | undefined;
}

/** Undefined if there is nothing to say. */
export function pictureLine(shown: Shown): string | undefined {
  const { choice, quality } = shown;
  // At once, and not only when the relay has said it too.
  if (choice === "sound") return "Sound only, as you asked";
  if (!quality) return undefined;
  if (!quality.video) return without(quality);
  const size = quality.video.size ?? shown.frame;
  const picture = size ? `${size.width}\u00a0×\u00a0${size.height}` : "Picture";
  const why = because(shown, quality.video.id);
  return why ? `${picture}, ${why}` : picture;
}

function because({ choice, wish, encodings, quality }: Shown, id: string): string | undefined {
  if (choice === "save" && isBetter(encodings, id, wish.encodingId)) return "smaller soon";
  switch (quality?.reason) {
    case "best":
      return choice === "save" ? "stage sends no smaller" : "best there is";
    case "link":
      return "your network";
    case "wish":
      if (choice === "save") return "saving data";
      return wish.encodingId === undefined ? "better soon" : "enough at this size";
    case "publisher":
      return "stage sends no better";
    case "bridge":
      return "a link is full";
    default:
      return undefined;
  }
}

/** What is sent is better than what was wished: the relay changes it where a decoder can follow. */
function isBetter({ active }: Encodings, sent: string, wished: string | undefined): boolean {
  const place = (id: string | undefined) => active.findIndex((one) => one.id === id);
  return place(sent) >= 0 && place(sent) < place(wished);
}

function without({ reason }: Quality): string | undefined {
  switch (reason) {
    case "link":
      return "Picture paused: your network is slow";
    case "publisher":
      return "Stage sends no picture now";
    case "bridge":
      return "Picture paused: a link is full";
    case "best":
    case "wish":
      return "Picture is coming";
    default:
      return undefined;
  }
}
