// What the organizer tells everybody, on top of the page until it is put away.
import { useState } from "preact/hooks";
import type { Message } from "../api";

/** Older ones are in the room's welcome all the same, but no news any more. */
const NEWS_MS = 6 * 3_600_000;

export function Announcement({ message }: { message: Message | undefined }) {
  const [read, setRead] = useState<string>();
  if (message === undefined || message.id === read) return null;
  if (Date.now() - Date.parse(message.sent_at) > NEWS_MS) return null;
  return (
    <div class="announcement" role="alert">
      <p>
        <b>{message.author}</b> {message.text}
      </p>
      <button type="button" onClick={() => setRead(message.id)}>
        Got it
      </button>
    </div>
  );
}
