// A room as people see it: what was said in every zone, and the line to say something. Text only.
import type { RefObject } from "preact";
import { useRef } from "preact/hooks";
import { spoken } from "../api/names";
import type { Message } from "../api/types";
import { clock, secondsUntil } from "../device/time";
import { useCountdown } from "../hooks/countdown";
import { type Draft, useDraft } from "../hooks/draft";
import { useReading } from "../hooks/reading";
import { AUTHOR_MAX, type Pending, type Room, type RoomView, TEXT_MAX } from "../rooms/room";
import { Files } from "./files";

export function Chat({ room, view }: { room: Room | undefined; view: RoomView }) {
  const panel = useRef<HTMLElement>(null);
  const log = useRef<HTMLOListElement>(null);
  const name = useRef<HTMLInputElement>(null);
  const reading = useReading(log, view);
  const draft = useDraft(room, { onNameless: () => name.current!.focus(), onSay: reading.follow });
  useCountdown(view.pending.some((one) => one.again !== undefined));
  const toEnd = () => {
    panel.current!.scrollIntoView({ block: "end" });
    reading.toEnd();
  };
  return (
    <section class="chat" ref={panel} aria-label="Chat">
      <header>
        <h2>{room ? spoken(room.name) : "Chat"}</h2>
        <span class="quiet">{view.online ? `${view.present} here` : "no connection"}</span>
        <Author draft={draft} name={name} />
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls can be scrolled by keys. */}
      <ol class="log" ref={log} onScroll={reading.look} tabIndex={0} aria-live="polite" aria-label="Messages">
        <Log view={view} onEdit={draft.edit} />
      </ol>
      {reading.unread > 0 && (
        <button type="button" class="unread" onClick={toEnd}>
          {reading.unread} new {reading.unread === 1 ? "message" : "messages"} ↓
        </button>
      )}
      {room && (
        <Files
          room={room.name}
          zone={view.zone}
          author={draft.author}
          news={view.fileNews}
          onHint={draft.setHint}
          onNameless={draft.askName}
        />
      )}
      <Say draft={draft} />
      <p class="hint" role="status">
        {draft.hint}
      </p>
    </section>
  );
}

function Author({ draft, name }: { draft: Draft; name: RefObject<HTMLInputElement | null> }) {
  return (
    <label class="author">
      <span class="quiet">as</span>
      <input
        ref={name}
        name="author"
        value={draft.author}
        maxLength={AUTHOR_MAX}
        placeholder="your name"
        autocomplete="nickname"
        enterkeyhint="done"
        onInput={(event) => draft.setAuthor(event.currentTarget.value)}
      />
    </label>
  );
}

function Log({ view, onEdit }: { view: RoomView; onEdit(refused: Pending): void }) {
  const { messages, pending, online, zone, unsaved } = view;
  return (
    <>
      {messages.length === 0 && pending.length === 0 && (
        <li class="nothing">Nothing said yet. Every zone of the festival reads along here.</li>
      )}
      {messages.map((message) => (
        <Said key={message.id} message={message} zone={zone} unsaved={unsaved.has(message.id)} />
      ))}
      {pending.map((one) => (
        <Unsaid key={one.nonce} one={one} online={online} onEdit={onEdit} />
      ))}
    </>
  );
}

/** `zone` is the relay's: what comes from others says so. */
function Said({ message, zone, unsaved }: { message: Message; zone: string | undefined; unsaved: boolean }) {
  return (
    <li>
      <span class="who">
        <b>{message.author}</b>
        {message.zone !== zone && <span class="from">{message.zone}</span>}
        <time dateTime={message.sent_at}>{clock(message.sent_at)}</time>
        {unsaved && (
          <span class="from" title="Only this zone's relay has stored it so far">
            stored here only
          </span>
        )}
      </span>
      <span class="said">{message.text}</span>
    </li>
  );
}

function Unsaid({ one, online, onEdit }: { one: Pending; online: boolean; onEdit(refused: Pending): void }) {
  return (
    <li class="pending">
      <span class="who">
        <b>{one.author}</b>
        {one.refused ? (
          <button type="button" class="refused" onClick={() => onEdit(one)}>
            Not sent: {one.refused} Edit
          </button>
        ) : (
          <span class="from">{waiting(one, online)}</span>
        )}
      </span>
      <span class="said">{one.text}</span>
    </li>
  );
}

function waiting({ again }: Pending, online: boolean): string {
  if (!online) return "waiting for the relay";
  return again === undefined ? "sending" : `sent in ${secondsUntil(again)} s`;
}

function Say({ draft }: { draft: Draft }) {
  const submit = (event: Event) => {
    event.preventDefault();
    draft.say();
  };
  return (
    <form onSubmit={submit}>
      <input
        name="text"
        value={draft.text}
        maxLength={TEXT_MAX}
        placeholder="Say something"
        autocomplete="off"
        enterkeyhint="send"
        aria-label="Message"
        onInput={(event) => draft.setText(event.currentTarget.value)}
      />
      <button type="submit" aria-label="Send">
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M4 12 20 4.5 15.5 20l-4-6.5z" />
        </svg>
      </button>
    </form>
  );
}
