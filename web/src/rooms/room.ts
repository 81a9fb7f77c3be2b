// A room's WebSocket: who said what, in order and once; what we say is kept until the relay has it.
// Reconnects by itself. What is shown belongs to the chat component.

import { at } from "../api/root";
import type { Message, Stream } from "../api/types";

/** Something of our own that the relay has not shown yet. */
export interface Pending {
  nonce: string;
  author: string;
  text: string;
  /** Given by the relay once it has the message. */
  id: string | undefined;
  /** Why the relay refused it. */
  refused: string | undefined;
  /** It was said too fast: when it is said again by itself, by `Date.now()`. */
  again: number | undefined;
}

export interface RoomView {
  messages: readonly Message[];
  pending: readonly Pending[];
  online: boolean;
  present: number;
  zone: string | undefined;
  /** Messages of our own that are on the disk of this relay only, so far. */
  unsaved: ReadonlySet<string>;
  /** What the organizer told everybody, the newest last. */
  announcements: readonly Message[];
  /** Those of them that came while this page was open. */
  heard: ReadonlySet<string>;
  /** Grows when the list of files may be another. */
  fileNews: number;
}

export interface RoomEvents {
  onView(view: RoomView): void;
  onStreams(streams: Stream[]): void;
  /** The socket is open again after having been lost. */
  onReturn(): void;
}

type FromRelay =
  | { type: "welcome"; zone: string; history: Message[]; present: number; announcements?: Message[] }
  | { type: "announcement"; message: Message }
  | { type: "message"; message: Message }
  | { type: "said"; nonce: string; id: string; saved?: "here" | "mesh" }
  | { type: "saved"; id: string }
  | { type: "presence"; present: number }
  | { type: "streams"; streams: Stream[] }
  | { type: "file" }
  | { type: "refused"; nonce?: string; reason: string; retry_after_ms?: number };

const MESSAGES_MAX = 500;
const ANNOUNCEMENTS_MAX = 20;
const PENDING_MAX = 20;
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 5_000;
/** A relay that has not answered by then is behind a dead connection. */
const ANSWER_MS = 8_000;
/** What waits behind something else of ours looks so often whether it is its turn. */
const IN_TURN_MS = 250;
/** Nothing of ours waits longer, whatever the relay says. */
const WAIT_MAX_MS = 60_000;
export const AUTHOR_MAX = 64;
export const TEXT_MAX = 4_000;

/** 96 random bits. Not `randomUUID`: a page over plain HTTP does not have it. */
export function nonce(): string {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Room {
  private socket: WebSocket | undefined;
  private messages: Message[] = [];
  private pending: Pending[] = [];
  private online = false;
  private present = 0;
  private zone: string | undefined;
  private unsaved: ReadonlySet<string> = new Set();
  private announcements: Message[] = [];
  private heard: ReadonlySet<string> = new Set();
  private fileNews = 0;
  private failures = 0;
  private welcomed = false;
  private closed = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** What is done about each message of our own if nothing comes before: the line is taken for dead, or it is said again. */
  private readonly timers = new Map<string, ReturnType<typeof setTimeout>>();

  constructor(
    readonly name: string,
    private readonly events: RoomEvents,
    private readonly newSocket: (url: string) => WebSocket = (url) => new WebSocket(url),
  ) {
    this.open();
  }

  /** False when there is nothing to say or too much waits already. */
  say(author: string, text: string): boolean {
    const waiting = this.pending.filter((one) => one.refused === undefined).length;
    if (text.trim() === "" || author.trim() === "" || waiting >= PENDING_MAX) return false;
    const one: Pending = {
      nonce: nonce(),
      author: clip(author.trim(), AUTHOR_MAX),
      text: clip(text.trim(), TEXT_MAX),
      id: undefined,
      refused: undefined,
      again: undefined,
    };
    // Behind what waits for its time: a conversation keeps its order.
    const before = this.pending.find((other) => other.again !== undefined && other.refused === undefined);
    this.pending = [...this.pending, one];
    if (before?.again === undefined) this.send(one);
    else this.wait(one.nonce, before.again - Date.now() + IN_TURN_MS);
    this.tell();
    return true;
  }

  /** Takes a refused message off the list. */
  forget(nonce: string): void {
    this.pending = this.pending.filter((one) => one.nonce !== nonce);
    this.tell();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.socket?.close();
  }

  /** Connects anew at once: the network came back, or (`dead`) the connection there is leads nowhere. */
  hurry(dead = false): void {
    if (this.closed || (this.online && !dead)) return;
    clearTimeout(this.timer);
    const old = this.socket;
    this.online = false;
    this.open();
    old?.close();
    this.tell();
  }

  private open(): void {
    const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${at(`/api/v1/rooms/${this.name}/ws`)}`;
    const socket = this.newSocket(url);
    this.socket = socket;
    socket.onmessage = (event) => this.socket === socket && this.handle(event.data);
    socket.onclose = () => this.socket === socket && this.lost();
  }

  private lost(): void {
    this.socket = undefined;
    if (this.closed) return;
    this.online = false;
    this.failures += 1;
    const wait = Math.min(RETRY_MIN_MS * 2 ** Math.min(this.failures - 1, 8), RETRY_MAX_MS);
    this.timer = setTimeout(() => this.open(), wait * (0.75 + Math.random() / 2));
    this.tell();
  }

  private handle(data: unknown): void {
    let event: FromRelay | null;
    try {
      event = JSON.parse(String(data)) as FromRelay;
    } catch {
      return;
    }
    switch (event?.type) {
      case "welcome":
        this.welcome(event);
        return;
      case "message":
        this.add([event.message]);
        break;
      case "said":
        this.pending = this.messages.some((message) => message.id === event.id)
          ? this.pending.filter((one) => one.nonce !== event.nonce)
          : this.pending.map((one) => (one.nonce === event.nonce ? { ...one, id: event.id } : one));
        this.mark(event.id, event.saved === "here");
        break;
      case "saved":
        this.mark(event.id, false);
        break;
      case "announcement":
        this.announced([...this.announcements, event.message], true);
        break;
      case "presence":
        this.present = event.present;
        break;
      case "file":
        this.fileNews += 1;
        break;
      case "streams":
        this.events.onStreams(event.streams);
        return;
      case "refused":
        if (event.nonce !== undefined && typeof event.retry_after_ms === "number")
          this.wait(event.nonce, event.retry_after_ms);
        else
          this.pending = this.pending.map((one) =>
            one.nonce === event.nonce ? { ...one, refused: event.reason } : one,
          );
        break;
      default:
        return; // A newer relay may say more than we know.
    }
    this.tell();
  }

  /** Says it again by itself after so long. */
  private wait(nonce: string, ms: number): void {
    clearTimeout(this.timers.get(nonce));
    const wait = Math.min(Math.max(ms, 0), WAIT_MAX_MS);
    const again = Date.now() + wait;
    this.pending = this.pending.map((one) => (one.nonce === nonce ? { ...one, again } : one));
    this.timers.set(
      nonce,
      setTimeout(() => {
        const unsaid = this.pending.filter((one) => one.id === undefined && one.refused === undefined);
        const one = unsaid.find((one) => one.nonce === nonce);
        // One after another: together they would be too fast again.
        if (one && one === unsaid[0]) this.send(one);
        else if (one) this.wait(nonce, IN_TURN_MS);
        this.tell();
      }, wait),
    );
  }

  private mark(id: string, unsaved: boolean): void {
    if (this.unsaved.has(id) === unsaved) return;
    const marked = [...this.unsaved].filter((one) => one !== id);
    this.unsaved = new Set((unsaved ? [...marked, id] : marked).slice(-MESSAGES_MAX));
  }

  private welcome(event: { zone: string; history: Message[]; present: number; announcements?: Message[] }): void {
    const returned = this.welcomed;
    this.online = true;
    this.welcomed = true;
    this.failures = 0;
    this.zone = event.zone;
    this.present = event.present;
    this.announced(event.announcements ?? [], returned);
    this.fileNews += 1;
    // The relay's order is the order; what it no longer tells stays in front.
    const told = new Set(event.history.map((message) => message.id));
    this.messages = this.messages.filter((message) => !told.has(message.id));
    this.add(event.history);
    // The same nonce: if it did arrive before the line broke, the relay knows it.
    for (const one of this.pending) if (one.id === undefined && one.refused === undefined) this.send(one);
    this.tell();
    if (returned) this.events.onReturn();
  }

  /** `live`: what was not known yet has come while this page was open. */
  private announced(all: Message[], live: boolean): void {
    const known = new Set(this.announcements.map((message) => message.id));
    const last = [...new Map(all.map((message) => [message.id, message])).values()].slice(-ANNOUNCEMENTS_MAX);
    const fresh = last.filter((message) => live && !known.has(message.id)).map((message) => message.id);
    if (fresh.length > 0) this.heard = new Set([...this.heard, ...fresh].slice(-ANNOUNCEMENTS_MAX));
    this.announcements = last;
  }

  private add(messages: Message[]): void {
    const known = new Set(this.messages.map((message) => message.id));
    const fresh = messages.filter((message) => !known.has(message.id));
    this.messages = [...this.messages, ...fresh].slice(-MESSAGES_MAX);
    const ids = new Set(fresh.map((message) => message.id));
    this.pending = this.pending.filter((one) => one.id === undefined || !ids.has(one.id));
  }

  private send(one: Pending): void {
    const { socket } = this;
    clearTimeout(this.timers.get(one.nonce));
    this.pending = this.pending.map((other) => (other.nonce === one.nonce ? { ...other, again: undefined } : other));
    if (!this.online || socket?.readyState !== 1) return;
    const late = setTimeout(() => {
      const waits = this.pending.some(
        (other) => other.nonce === one.nonce && other.id === undefined && other.refused === undefined,
      );
      if (waits && this.socket === socket) this.hurry(true);
    }, ANSWER_MS);
    this.timers.set(one.nonce, late);
    socket.send(JSON.stringify({ type: "say", author: one.author, text: one.text, nonce: one.nonce }));
  }

  private tell(): void {
    const { messages, pending, online, present, zone, unsaved, announcements, heard, fileNews } = this;
    this.events.onView({ messages, pending, online, present, zone, unsaved, announcements, heard, fileNews });
  }
}

/** Cuts between characters, never inside one. */
function clip(text: string, most: number): string {
  const characters = [...text];
  return characters.length <= most ? text : characters.slice(0, most).join("");
}
