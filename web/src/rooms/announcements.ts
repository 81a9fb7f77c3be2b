// Which announcements are still news to this person, and the sending of one. What is shown belongs to the components.

import { problemOf, unreachable } from "../api/problem";
import { at } from "../api/root";
import type { Message, Posted } from "../api/types";
import { lasting } from "../device/storage";

/** Older ones are in the room's welcome all the same, but no news any more. */
export const NEWS_MS = 6 * 3_600_000;
/** Ids kept of what was put away. */
const READ_MAX = 100;

/**
 * What is to be shown, the newest first: nothing that was put away, nothing old. What came while the page
 * was open (`heard`) is news whatever the clocks say.
 */
export function newsOf(
  all: readonly Message[],
  heard: ReadonlySet<string>,
  read: ReadonlySet<string>,
  now: number,
): Message[] {
  const fresh = (message: Message) => heard.has(message.id) || now - Date.parse(message.sent_at) <= NEWS_MS;
  return all.filter((message) => !read.has(message.id) && fresh(message)).reverse();
}

/** Longer ones begin folded, so that what is under them stays in reach. */
export const isLong = (text: string) => text.length > 240 || text.split("\n").length > 4;

/** Ids of what this person has put away, also before a reload. */
export function readIds(): Set<string> {
  try {
    const kept: unknown = JSON.parse(lasting.get("read") ?? "[]");
    return new Set(Array.isArray(kept) ? kept.filter((id) => typeof id === "string") : []);
  } catch {
    return new Set();
  }
}

export function keepRead(ids: ReadonlySet<string>): void {
  lasting.set("read", JSON.stringify([...ids].slice(-READ_MAX)));
}

/** Tells every zone. The same `nonce` again is the same announcement, so trying again cannot say it twice. */
export async function announce(
  author: string,
  text: string,
  nonce: string,
  token: string | undefined,
): Promise<Posted> {
  let response: Response;
  try {
    response = await fetch(at("/api/v1/announcements"), {
      method: "POST",
      headers: { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) },
      body: JSON.stringify({ author, text, nonce }),
      signal: AbortSignal.timeout?.(ANSWER_MS),
    });
  } catch {
    throw unreachable();
  }
  if (response.status !== 201) throw await problemOf(response);
  return (await response.json()) as Posted;
}

/** A relay that has not answered by then is behind a dead connection. */
const ANSWER_MS = 8_000;
