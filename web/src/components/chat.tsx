// A room as people see it: what was said in every zone, and the line to say something. Text only.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { spoken } from "../api/api";
import { lasting } from "../device/storage";
import { clock } from "../device/time";
import { AUTHOR_MAX, type Room, type RoomView, TEXT_MAX } from "../rooms/room";
import { Files } from "./files";

/** How near to the end counts as reading along. */
const NEAR_PX = 40;

const seconds = (at: number) => Math.max(Math.ceil((at - Date.now()) / 1000), 1);

export function Chat({ room, view }: { room: Room | undefined; view: RoomView }) {
  const [author, setAuthor] = useState(() => lasting.get("author") ?? "");
  const [text, setText] = useState("");
  const [hint, setHint] = useState<string>();
  const panel = useRef<HTMLElement>(null);
  const log = useRef<HTMLOListElement>(null);
  const name = useRef<HTMLInputElement>(null);
  const [seen, setSeen] = useState<string>();
  const [inView, setInView] = useState(false);
  const atEnd = useRef(true);

  // What waits for its time counts down.
  const waits = view.pending.some((one) => one.again !== undefined);
  const [, setTick] = useState(0);
  useEffect(() => {
    if (!waits) return;
    const timer = setInterval(() => setTick((tick) => tick + 1), 500);
    return () => clearInterval(timer);
  }, [waits]);

  const last = view.messages.at(-1)?.id;
  const seenAt = view.messages.findIndex((message) => message.id === seen);
  const unread = seen === undefined || seenAt < 0 ? 0 : view.messages.length - 1 - seenAt;

  useEffect(() => {
    const watch = new IntersectionObserver(([entry]) => setInView(entry?.isIntersecting ?? false), { threshold: 0.3 });
    watch.observe(log.current!);
    return () => watch.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (atEnd.current) log.current!.scrollTop = log.current!.scrollHeight;
  }, [last, view.pending.length]);
  const read = () => {
    const element = log.current!;
    atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX;
    if (atEnd.current && inView && document.visibilityState === "visible") setSeen(last);
  };
  useEffect(() => {
    // What was there when we came is not news.
    if (seen === undefined || (inView && atEnd.current)) read();
    if (seen === undefined && last !== undefined) setSeen(last);
  }, [last, inView]);
  useEffect(() => {
    document.addEventListener("visibilitychange", read);
    return () => document.removeEventListener("visibilitychange", read);
  });

  const toEnd = () => {
    panel.current!.scrollIntoView({ block: "end" });
    log.current!.scrollTop = log.current!.scrollHeight;
    atEnd.current = true;
    setSeen(last);
  };
  const askName = () => {
    setHint("First say who you are.");
    name.current!.focus();
  };
  const say = (event: Event) => {
    event.preventDefault();
    if (text.trim() === "") return;
    if (author.trim() === "") return askName();
    lasting.set("author", author.trim());
    atEnd.current = true;
    if (room?.say(author, text)) {
      setText("");
      setHint(undefined);
    } else {
      setHint("Many messages are still waiting for the relay.");
    }
  };

  return (
    <section class="chat" ref={panel} aria-label="Chat">
      <header>
        <h2>{room ? spoken(room.name) : "Chat"}</h2>
        <span class="quiet">{view.online ? `${view.present} here` : "no connection"}</span>
        <label class="author">
          <span class="quiet">as</span>
          <input
            ref={name}
            name="author"
            value={author}
            maxLength={AUTHOR_MAX}
            placeholder="your name"
            autocomplete="nickname"
            enterkeyhint="done"
            onInput={(event) => setAuthor(event.currentTarget.value)}
          />
        </label>
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls can be scrolled by keys. */}
      <ol class="log" ref={log} onScroll={read} tabIndex={0} aria-live="polite" aria-label="Messages">
        {view.messages.length === 0 && view.pending.length === 0 && (
          <li class="nothing">Nothing said yet. Every zone of the festival reads along here.</li>
        )}
        {view.messages.map((message) => (
          <li key={message.id}>
            <span class="who">
              <b>{message.author}</b>
              {message.zone !== view.zone && <span class="from">{message.zone}</span>}
              <time dateTime={message.sent_at}>{clock(message.sent_at)}</time>
              {view.unsaved.has(message.id) && (
                <span class="from" title="Only this zone's relay has stored it so far">
                  stored here only
                </span>
              )}
            </span>
            <span class="said">{message.text}</span>
          </li>
        ))}
        {view.pending.map((one) => (
          <li key={one.nonce} class="pending">
            <span class="who">
              <b>{one.author}</b>
              {one.refused ? (
                <button
                  type="button"
                  class="refused"
                  onClick={() => {
                    setText(one.text);
                    room?.forget(one.nonce);
                  }}
                >
                  Not sent: {one.refused} Edit
                </button>
              ) : (
                <span class="from">
                  {!view.online
                    ? "waiting for the relay"
                    : one.again === undefined
                      ? "sending"
                      : `sent in ${seconds(one.again)} s`}
                </span>
              )}
            </span>
            <span class="said">{one.text}</span>
          </li>
        ))}
      </ol>
      {unread > 0 && (
        <button type="button" class="unread" onClick={toEnd}>
          {unread} new {unread === 1 ? "message" : "messages"} ↓
        </button>
      )}
      {room && (
        <Files
          room={room.name}
          zone={view.zone}
          author={author}
          news={view.fileNews}
          onHint={setHint}
          onNameless={askName}
        />
      )}
      <form onSubmit={say}>
        <input
          name="text"
          value={text}
          maxLength={TEXT_MAX}
          placeholder="Say something"
          autocomplete="off"
          enterkeyhint="send"
          aria-label="Message"
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" aria-label="Send">
          <svg viewBox="0 0 24 24" aria-hidden="true">
            <path d="M4 12 20 4.5 15.5 20l-4-6.5z" />
          </svg>
        </button>
      </form>
      <p class="hint" role="status">
        {hint}
      </p>
    </section>
  );
}
