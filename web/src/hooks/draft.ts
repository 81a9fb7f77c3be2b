// What somebody is about to say: who they are, the words, and why it cannot be said yet.
import { useState } from "preact/hooks";
import { lasting } from "../device/storage";
import type { Pending, Room } from "../rooms/room";

export interface Draft {
  author: string;
  text: string;
  hint: string | undefined;
  setAuthor(author: string): void;
  setText(text: string): void;
  setHint(hint: string | undefined): void;
  /** Gives it to the room. */
  say(): void;
  /** Takes a refused message back to write it another way. */
  edit(refused: Pending): void;
  /** Somebody without a name wants to say or give something. */
  askName(): void;
}

export interface DraftEvents {
  onNameless(): void;
  /** It is about to be said. */
  onSay(): void;
}

export function useDraft(room: Room | undefined, { onNameless, onSay }: DraftEvents): Draft {
  const [author, setAuthor] = useState(() => lasting.get("author") ?? "");
  const [text, setText] = useState("");
  const [hint, setHint] = useState<string>();
  const askName = () => {
    setHint("First say who you are.");
    onNameless();
  };
  const say = () => {
    if (text.trim() === "") return;
    if (author.trim() === "") return askName();
    lasting.set("author", author.trim());
    onSay();
    if (room?.say(author, text)) {
      setText("");
      setHint(undefined);
    } else {
      setHint("Many messages are still waiting for the relay.");
    }
  };
  const edit = (refused: Pending) => {
    setText(refused.text);
    room?.forget(refused.nonce);
  };
  return { author, text, hint, setAuthor, setText, setHint, say, edit, askName };
}
