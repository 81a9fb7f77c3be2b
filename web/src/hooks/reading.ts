// How far somebody has read in a room: whether they read along, and what came since they stopped.
import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { RoomView } from "../rooms/room";

/** How near to the end counts as reading along. */
const NEAR_PX = 40;

export interface Reading {
  /** Messages that came since the one read last. */
  unread: number;
  /** It was scrolled. */
  look(): void;
  /** From here on what comes is followed. */
  follow(): void;
  /** Goes to the end. */
  toEnd(): void;
}

/** Messages after the one with this id; none if there is no such one. */
export function unreadAfter(seen: string | undefined, messages: readonly { id: string }[]): number {
  const at = seen === undefined ? -1 : messages.findIndex((message) => message.id === seen);
  return at < 0 ? 0 : messages.length - 1 - at;
}

/** `log` is what scrolls; it is there when effects run. */
export function useReading(
  log: RefObject<HTMLElement | null>,
  { messages, pending }: Pick<RoomView, "messages" | "pending">,
): Reading {
  const [seen, setSeen] = useState<string>();
  const [inView, setInView] = useState(false);
  const atEnd = useRef(true);
  const last = messages.at(-1)?.id;

  useEffect(() => {
    const watch = new IntersectionObserver(([entry]) => setInView(entry?.isIntersecting ?? false), { threshold: 0.3 });
    watch.observe(log.current!);
    return () => watch.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (atEnd.current) log.current!.scrollTop = log.current!.scrollHeight;
  }, [last, pending.length]);
  const look = () => {
    const element = log.current!;
    atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX;
    if (atEnd.current && inView && document.visibilityState === "visible") setSeen(last);
  };
  useEffect(() => {
    // What was there when we came is not news.
    if (seen === undefined || (inView && atEnd.current)) look();
    if (seen === undefined && last !== undefined) setSeen(last);
  }, [last, inView]);
  useEffect(() => {
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  });

  return {
    unread: unreadAfter(seen, messages),
    look,
    follow: () => {
      atEnd.current = true;
    },
    toEnd: () => {
      log.current!.scrollTop = log.current!.scrollHeight;
      atEnd.current = true;
      setSeen(last);
    },
  };
}
