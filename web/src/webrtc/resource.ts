// The HTTP half of a session: the resource that WHIP (RFC 9725) and WHEP share. POST makes it, PATCH
// restarts its ICE, DELETE ends it.
import { Problem, problemOf, unreachable } from "../api/problem";
import { within } from "../api/root";
import { type Links, linksOf } from "./links";

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export const browserFetch: Fetch = (url, init) => fetch(url, init);

const TRY_MS = 8_000;

/** Fails with a {@link Problem} if the relay does not answer in time. */
export async function ask(fetch: Fetch, url: string, init: RequestInit): Promise<Response> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), TRY_MS);
  try {
    return await fetch(url, { ...init, signal: abort.signal });
  } catch {
    throw unreachable();
  } finally {
    clearTimeout(timer);
  }
}

/** What the relay has against a request; undefined if it did what was asked. */
export async function refusal(answer: Promise<Response>): Promise<Problem | undefined> {
  try {
    const response = await answer;
    return response.ok ? undefined : await problemOf(response);
  } catch (error) {
    return error instanceof Problem ? error : unreachable();
  }
}

export class Resource {
  private constructor(
    private readonly fetch: Fetch,
    private readonly url: string,
    private readonly token: string | undefined,
    /** The relay's answer to the offer. */
    readonly answer: string,
    /** What else the relay has for this session. */
    readonly links: Links,
  ) {}

  /** Offers; resolves with the made resource or fails with the relay's {@link Problem}. */
  static async open(fetch: Fetch, endpoint: string, offer: string, token?: string): Promise<Resource> {
    const response = await ask(fetch, endpoint, {
      method: "POST",
      headers: { "content-type": "application/sdp", ...bearer(token) },
      body: offer,
    });
    if (response.status !== 201) throw await problemOf(response);
    const location = response.headers.get("location");
    if (!location) throw new Problem(response.status, "The relay did not say where the session is.");
    // An absolute path (RFC 9725 section 4.2), so no base is needed.
    const links = linksOf(response.headers.get("link"), response.url);
    return new Resource(fetch, within(location), token, await response.text(), links);
  }

  /** Sends an ICE restart; resolves with the fragment that answers it. */
  async restart(fragment: string): Promise<string> {
    const response = await ask(this.fetch, this.url, {
      method: "PATCH",
      headers: { "content-type": "application/trickle-ice-sdpfrag", "if-match": "*", ...bearer(this.token) },
      body: fragment,
    });
    if (response.status !== 200) throw await problemOf(response);
    return response.text();
  }

  /** Ends the session. Best effort: the relay also notices by itself. `leaving` outlives the page. */
  async end(leaving = false): Promise<void> {
    try {
      await this.fetch(this.url, { method: "DELETE", headers: bearer(this.token), keepalive: leaving });
    } catch {
      // Consent expiry ends it.
    }
  }
}

const bearer = (token: string | undefined): Record<string, string> =>
  token ? { authorization: `Bearer ${token}` } : {};
