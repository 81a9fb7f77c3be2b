// Files on their way from this page to a room: one after another, each until the relay has it, refuses it,
// or its giver takes it back. A line that breaks is tried again from the first byte, since a relay keeps
// nothing of a body that broke off; the same file twice is one file to it.

import { Problem } from "../api/problem";
import { giveFile, type Sending } from "./files";

/** waits: others go first. sends: its bytes leave. stores: all have left. breaks: tried again soon. refused: somebody has to do something. */
export type OfferState = "waits" | "sends" | "stores" | "breaks" | "refused";

export interface Offer {
  key: number;
  name: string;
  bytes: number;
  state: OfferState;
  /** 0 to 1. */
  share: number;
  /** Why it broke or was refused. */
  problem: Problem | undefined;
}

interface Entry extends Offer {
  file: File;
  from: string;
  /** Failures in a row. */
  tries: number;
  /** Something of it left in this try. */
  moved: boolean;
}

export const OFFERS_MAX = 20;
/** A line that broke so often in a row without a byte getting further may be no line at all. */
const TRIES_MAX = 6;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;

export class Outbox {
  private entries: Entry[] = [];
  private sending: { key: number; it: Sending } | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private nextKey = 1;
  private readonly listeners = new Set<() => void>();

  constructor(
    readonly room: string,
    private readonly token: () => string | undefined,
    private readonly give: typeof giveFile = giveFile,
  ) {}

  get offers(): readonly Offer[] {
    return this.entries;
  }

  /** Whether leaving the page would lose something. */
  get busy(): boolean {
    return this.entries.some((one) => one.state !== "refused");
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Takes what there is room for; the number of files that were too many. */
  offer(files: readonly File[], from: string): number {
    const taken = files.slice(0, Math.max(OFFERS_MAX - this.entries.length, 0));
    const entries = taken.map(
      (file): Entry => ({
        key: this.nextKey++,
        name: file.name,
        bytes: file.size,
        state: "waits",
        share: 0,
        problem: undefined,
        file,
        from,
        tries: 0,
        moved: false,
      }),
    );
    this.entries = [...this.entries, ...entries];
    this.next();
    return files.length - taken.length;
  }

  /** Its giver takes it back, or has read why it was refused. */
  drop(key: number): void {
    this.entries = this.entries.filter((one) => one.key !== key);
    if (this.sending?.key === key) {
      const { it } = this.sending;
      this.sending = undefined;
      it.stop();
    }
    this.next();
  }

  /** Tries at once what broke or was refused. */
  again(key: number): void {
    this.change(key, { state: "waits", share: 0, problem: undefined, tries: 0 });
    this.next();
  }

  /** There is another token: tries all that were refused for want of it. */
  allowed(): void {
    const refused = this.entries.filter(
      (one) => one.state === "refused" && [401, 403].includes(one.problem?.status ?? 0),
    );
    for (const { key } of refused) this.change(key, { state: "waits", share: 0, problem: undefined, tries: 0 });
    this.next();
  }

  /** The network came back. */
  hurry(): void {
    for (const one of this.entries) if (one.state === "breaks") this.change(one.key, { state: "waits" });
    this.next();
  }

  private next(): void {
    const one = this.sending ? undefined : this.entries.find((one) => one.state === "waits");
    if (one) this.send(one);
    this.tell();
  }

  private send(one: Entry): void {
    const { key } = one;
    const it = this.give(this.room, one.file, one.from, this.token(), (share) => {
      this.change(key, { share, state: share < 1 ? "sends" : "stores", moved: share > 0 });
      this.tell();
    });
    this.sending = { key, it };
    this.change(key, { state: "sends", share: 0, problem: undefined, moved: false });
    it.done.then(
      () => this.ended(key, it, undefined),
      (error: unknown) =>
        this.ended(key, it, error instanceof Problem ? error : new Problem(-1, "The browser could not read the file.")),
    );
  }

  private ended(key: number, it: Sending, problem: Problem | undefined): void {
    if (this.sending?.it !== it) return; // It was taken back.
    this.sending = undefined;
    const one = this.entries.find((one) => one.key === key);
    if (one && !problem) this.entries = this.entries.filter((other) => other !== one);
    if (one && problem) this.failed(one, problem);
    this.next();
  }

  private failed(one: Entry, problem: Problem): void {
    // A line that carries something is one, however often it breaks.
    const tries = problem.status === 0 && one.moved ? 1 : one.tries + 1;
    // A full disk does not mend itself in seconds; what is busy, or a line that broke, does. 400 is what the
    // relay says when it has waited in vain for the rest of a body.
    const passing = [0, 400, 408, 429, 503].includes(problem.status);
    if (!passing || tries >= TRIES_MAX) {
      this.change(one.key, { state: "refused", problem, tries });
      return;
    }
    this.change(one.key, { state: "breaks", problem, tries });
    const wait = problem.retryAfterMs ?? Math.min(RETRY_MIN_MS * 2 ** (tries - 1), RETRY_MAX_MS);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.hurry(), wait);
  }

  private change(key: number, part: Partial<Entry>): void {
    this.entries = this.entries.map((one) => (one.key === key ? { ...one, ...part } : one));
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}
