// An error of the relay (RFC 9457), or of the way to it, as something a page can show and act on.

/** What the relay refused, or why it could not be asked. */
export class Problem extends Error {
  constructor(
    /** HTTP status; 0 when the relay was not reached. */
    readonly status: number,
    /** What to do about it, in a sentence. */
    readonly title: string,
    /** What exactly was wrong. */
    readonly detail?: string,
    /** When the relay asks to be asked again, in milliseconds. */
    readonly retryAfterMs?: number,
  ) {
    super(detail ? `${title} (${detail})` : title);
    this.name = "Problem";
  }

  /** Asking again unchanged may help. */
  get passing(): boolean {
    return this.status === 0 || this.status >= 500 || [408, 409, 425, 429].includes(this.status);
  }
}

const LONGEST_TEXT = 300;
const text = (value: unknown) =>
  typeof value === "string" && value.trim() !== "" ? value.trim().slice(0, LONGEST_TEXT) : undefined;

/** `Retry-After` in milliseconds: seconds or a date (RFC 9110 section 10.2.3), at most a minute. */
export function retryAfter(header: string | null, now: number): number | undefined {
  if (header === null || header.trim() === "") return undefined;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - now;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), 60_000);
}

/** Reads what a refused request answered; never fails, whatever the body is. */
export async function problemOf(response: Response, now = Date.now()): Promise<Problem> {
  const wait = retryAfter(response.headers.get("retry-after"), now);
  let body: unknown;
  try {
    body = JSON.parse(await response.text());
  } catch {
    body = undefined;
  }
  const fields = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  return new Problem(
    response.status,
    sentence(text(fields.title)) ?? plain(response.status),
    text(fields.detail),
    wait,
  );
}

/** The relay's clause as a sentence: "text is empty" begins large and ends. */
export function sentence(clause: string): string;
export function sentence(clause: string | undefined): string | undefined;
export function sentence(clause: string | undefined): string | undefined {
  if (!clause) return clause;
  const end = /[.!?…]$/.test(clause) ? "" : clause.length >= LONGEST_TEXT ? "…" : ".";
  return clause.charAt(0).toUpperCase() + clause.slice(1, LONGEST_TEXT - end.length) + end;
}

/** The relay did not answer at all. */
export function unreachable(): Problem {
  return new Problem(0, "The relay does not answer. Are you still on the festival's Wi-Fi?");
}

function plain(status: number): string {
  if (status === 401 || status === 403) return "The relay asks for a publish token.";
  if (status === 404) return "The relay does not know this.";
  if (status === 409) return "Nobody is publishing this right now.";
  if (status === 429 || status === 503) return "The relay is busy; trying again shortly.";
  return `The relay answered with an error (${status}).`;
}
