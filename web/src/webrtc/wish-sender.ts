// Tells the relay what a listener wishes of the picture: the last wish wins, seldom enough for the relay,
// and again for each new session.
import type { Problem } from "../api/problem";
import { ask, type Fetch, refusal } from "./resource";
import type { Wish } from "./wish";

/** At most one request in this time. */
const GAP_MS = 500;
/** For a 429 that does not say how long. */
const BUSY_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** What the relay does for a session that nothing was wished for. */
const AUTOMATIC = "{}";

export class WishSender {
  private url: string | undefined;
  private wanted = AUTOMATIC;
  /** A wish for an encoding that is not there: everything is better than what was wished before. */
  private missing: string | undefined;
  /** What the relay has, or has refused; undefined if that is not known. */
  private told: string | undefined = AUTOMATIC;
  private asking = false;
  private resting: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  /** Counts sessions: what an older one answers is void. */
  private turn = 0;

  constructor(private readonly fetch: Fetch) {}

  wish(wish: Wish): void {
    const wanted = JSON.stringify(wish);
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    this.missing = undefined;
    this.send();
  }

  /** A new session, which takes wishes at `url`. */
  attach(url: string | undefined): void {
    this.detach();
    this.url = url;
    this.send();
  }

  detach(): void {
    this.turn += 1;
    this.url = undefined;
    this.missing = undefined;
    this.told = AUTOMATIC;
    this.asking = false;
    this.failures = 0;
    // What the former session had to wait for does not hold for the next.
    if (this.resting !== undefined) this.rest(GAP_MS);
  }

  private send(): void {
    const { url } = this;
    const next = this.wanted === this.missing ? AUTOMATIC : this.wanted;
    if (url === undefined || this.asking || this.resting !== undefined || next === this.told) return;
    this.asking = true;
    this.rest(GAP_MS);
    void this.post(url, next);
  }

  private async post(url: string, wish: string): Promise<void> {
    const { turn } = this;
    const problem = await refusal(
      ask(this.fetch, url, { method: "POST", headers: { "content-type": "application/json" }, body: wish }),
    );
    if (turn !== this.turn) return;
    this.asking = false;
    this.heed(wish, problem);
    this.send();
  }

  /** Nothing here is worth an alarm: the player goes on with what it gets. */
  private heed(wish: string, problem: Problem | undefined): void {
    if (problem?.status === 429) {
      this.rest(problem.retryAfterMs ?? BUSY_MS);
    } else if (problem?.passing) {
      // It may have arrived all the same.
      this.told = undefined;
      this.failures += 1;
      this.rest(problem.retryAfterMs ?? Math.min(GAP_MS * 2 ** Math.min(this.failures, 8), RETRY_MAX_MS));
    } else if (problem?.status === 404 && wish.includes("encodingId")) {
      this.told = undefined;
      this.missing = wish;
    } else {
      this.failures = 0;
      this.told = wish;
    }
  }

  private rest(ms: number): void {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      this.resting = undefined;
      this.send();
    }, ms);
  }
}
