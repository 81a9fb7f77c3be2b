// A video outside its page: in a small window above all others, or filling the screen. Safari has its own
// words for both.

interface SafariVideo {
  webkitPresentationMode?: string;
  webkitDisplayingFullscreen?: boolean;
}

/** What happens to a video element when it leaves its page or comes back. */
export const WINDOW_EVENTS = [
  "enterpictureinpicture",
  "leavepictureinpicture",
  "webkitpresentationmodechanged",
  "webkitbeginfullscreen",
  "webkitendfullscreen",
] as const;

/** It is seen though its page is not. */
export function isPictureInPicture(video: HTMLVideoElement): boolean {
  return (
    document.pictureInPictureElement === video || (video as SafariVideo).webkitPresentationMode === "picture-in-picture"
  );
}

/** Its place on the page does not say how large it is. */
export function isOutside(video: HTMLVideoElement): boolean {
  return isPictureInPicture(video) || (video as SafariVideo).webkitDisplayingFullscreen === true;
}
