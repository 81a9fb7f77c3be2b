// What the relay tells a session by server-sent events. The browser connects again by itself, except after a
// refusal: then this does, ever more slowly.

const RETRY_MIN_MS = 5_000;
const RETRY_MAX_MS = 60_000;
/** As EventSource has it; the constant is not everywhere. */
const CLOSED = 2;

export interface Feed {
  readonly readyState: number;
  onerror: ((event: Event) => unknown) | null;
  addEventListener(name: string, heard: (event: MessageEvent<string>) => void): void;
  close(): void;
}

export class EventFeed {
  private url: string | undefined;
  private feed: Feed | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private refusals = 0;

  constructor(
    private readonly heard: Readonly<Record<string, (data: string) => void>>,
    /** It was refused: what was heard last may no longer be so. */
    private readonly onLost: () => void,
    private readonly newFeed: (url: string) => Feed = (url) => new EventSource(url),
  ) {}

  /** Hears the events at `url` from now on, and no others. */
  open(url: string | undefined): void {
    if (url === this.url) return;
    this.close();
    this.url = url;
    this.connect();
  }

  close(): void {
    clearTimeout(this.timer);
    this.feed?.close();
    this.feed = undefined;
    this.url = undefined;
    this.refusals = 0;
  }

  private connect(): void {
    if (this.url === undefined) return;
    const feed = this.newFeed(this.url);
    this.feed = feed;
    for (const [name, hear] of Object.entries(this.heard)) {
      feed.addEventListener(name, ({ data }) => {
        if (feed !== this.feed) return;
        this.refusals = 0;
        hear(data);
      });
    }
    feed.onerror = () => {
      if (feed !== this.feed || feed.readyState !== CLOSED) return;
      this.onLost();
      this.timer = setTimeout(() => this.connect(), Math.min(RETRY_MIN_MS * 2 ** this.refusals, RETRY_MAX_MS));
      this.refusals = Math.min(this.refusals + 1, 8);
    };
  }
}
