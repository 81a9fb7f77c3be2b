// Whether nobody can see the picture: the tab is hidden or the phone locked, and not only for a moment.
import type { RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";
import { isPictureInPicture, WINDOW_EVENTS } from "../device/video-window";

/** Who glances at another tab finds the picture as it was. */
const AWAY_MS = 1_000;

/** `video` is there when effects run. */
export function useAway(video: RefObject<HTMLVideoElement | null>): boolean {
  const [away, setAway] = useState(false);
  useEffect(() => {
    const element = video.current!;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = () => {
      clearTimeout(timer);
      if (document.visibilityState !== "hidden" || isPictureInPicture(element)) setAway(false);
      else timer = setTimeout(() => setAway(true), AWAY_MS);
    };
    look();
    document.addEventListener("visibilitychange", look);
    for (const type of WINDOW_EVENTS) element.addEventListener(type, look);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
      for (const type of WINDOW_EVENTS) element.removeEventListener(type, look);
    };
  }, []);
  return away;
}
