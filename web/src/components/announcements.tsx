// What the organizer tells everybody, on top of each page until it is put away.
import { useEffect, useRef, useState } from "preact/hooks";
import { origin } from "../api/names";
import { getAnnouncements } from "../api/requests";
import type { Message } from "../api/types";
import { clock } from "../device/time";
import { usePolled } from "../hooks/polling";
import { isLong, keepRead, newsOf, readIds } from "../rooms/announcements";

const NOTHING: ReadonlySet<string> = new Set();

export function Announcements({ all, heard }: { all: readonly Message[]; heard: ReadonlySet<string> }) {
  const [read, setRead] = useState(readIds);
  // One is enough to cover a phone's screen.
  const [whole, setWhole] = useState(false);
  const region = useRef<HTMLElement>(null);
  const news = newsOf(all, heard, read, Date.now());
  const putAway = (ids: string[]) => {
    // What another tab has put away meanwhile stays away.
    const next = new Set([...readIds(), ...read, ...ids]);
    keepRead(next);
    setRead(next);
    // The button that had the focus goes with it.
    requestAnimationFrame(() =>
      (region.current?.querySelector<HTMLElement>("button") ?? region.current)?.focus({ preventScroll: true }),
    );
  };
  // The region is there before anything is in it, or screen readers do not announce it.
  return (
    <section
      class="announcements"
      ref={region}
      tabIndex={-1}
      aria-live="assertive"
      aria-relevant="additions"
      aria-label="Announcements"
    >
      {news.slice(0, whole ? undefined : 1).map((message) => (
        <Announcement key={message.id} message={message} onRead={() => putAway([message.id])} />
      ))}
      {news.length > 1 && (
        <p class="more">
          <button type="button" aria-expanded={whole} onClick={() => setWhole(!whole)}>
            {whole ? "Only the newest" : `${news.length - 1} earlier`}
          </button>
          <button type="button" onClick={() => putAway(news.map((message) => message.id))}>
            Put all away
          </button>
        </p>
      )}
    </section>
  );
}

function Announcement({ message, onRead }: { message: Message; onRead(): void }) {
  const long = isLong(message.text);
  const [whole, setWhole] = useState(!long);
  return (
    <article class="announcement">
      <p class="who">
        <b dir="auto">{message.author}</b>
        <span>
          {origin(message)}, <time dateTime={message.sent_at}>{clock(message.sent_at)}</time>
        </span>
      </p>
      <p class={whole ? "text" : "text folded"} dir="auto">
        {message.text}
      </p>
      <p class="act">
        {long && (
          <button type="button" aria-expanded={whole} onClick={() => setWhole(!whole)}>
            {whole ? "Show less" : "Read all"}
          </button>
        )}
        <button type="button" onClick={onRead} aria-label={`Got it: put away what ${message.author} says`}>
          Got it
        </button>
      </p>
    </article>
  );
}

/** The same for pages that are in no room: asks the relay now and then. */
export function PolledAnnouncements({ everyMs }: { everyMs: number }) {
  const { value } = usePolled(getAnnouncements, everyMs);
  const [known, setKnown] = useState<ReadonlySet<string>>();
  const [heard, setHeard] = useState(NOTHING);
  useEffect(() => {
    if (value === undefined) return;
    const fresh =
      known === undefined ? [] : value.filter((message) => !known.has(message.id)).map((message) => message.id);
    if (fresh.length > 0) setHeard(new Set([...heard, ...fresh]));
    setKnown(new Set(value.map((message) => message.id)));
  }, [value]);
  return <Announcements all={value ?? []} heard={heard} />;
}
