// How large a video is drawn, in pixels of the screen.
import type { RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";
import { isOutside, WINDOW_EVENTS } from "../device/video-window";
import type { Size } from "../webrtc/quality";

/** So long a picture has to be smaller: a window that is being moved about is not followed. */
const SMALLER_MS = 1_000;

/** Larger at once, smaller after a while; undefined until it was drawn. A hidden video keeps its last size. */
export function useDrawn(video: RefObject<HTMLVideoElement | null>): Size | undefined {
  const [drawn, setDrawn] = useState<Size>();
  useEffect(() => {
    const element = video.current!;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last: Size | undefined;
    const take = (size: Size) => {
      last = size;
      setDrawn(size);
    };
    const look = () => {
      clearTimeout(timer);
      const size = sizeOf(element);
      if (!size || (size.width === last?.width && size.height === last.height)) return;
      if (!last || size.width > last.width || size.height > last.height) take(size);
      else timer = setTimeout(() => take(size), SMALLER_MS);
    };
    const watch = new ResizeObserver(look);
    watch.observe(element);
    // Zooming changes how many pixels there are, and not the element's own size.
    window.addEventListener("resize", look);
    for (const type of WINDOW_EVENTS) element.addEventListener(type, look);
    return () => {
      clearTimeout(timer);
      watch.disconnect();
      window.removeEventListener("resize", look);
      for (const type of WINDOW_EVENTS) element.removeEventListener(type, look);
    };
  }, []);
  return drawn;
}

function sizeOf(video: HTMLVideoElement): Size | undefined {
  if (isOutside(video)) return { width: Infinity, height: Infinity };
  const pixels = window.devicePixelRatio || 1;
  const size = { width: Math.round(video.clientWidth * pixels), height: Math.round(video.clientHeight * pixels) };
  return size.width > 0 && size.height > 0 ? size : undefined;
}
