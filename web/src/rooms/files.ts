// The files of a room: their list, and sending it one. When to try again is for the outbox; where the
// bytes travel is the relays' business.

import { Problem, problemOf, retryAfter, sentence, unreachable } from "../api/problem";
import { at } from "../api/root";
import type { SharedFile } from "../api/types";

export async function listFiles(room: string): Promise<SharedFile[]> {
  let response: Response;
  try {
    response = await fetch(at(`/api/v1/rooms/${room}/files`), { cache: "no-store" });
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as SharedFile[];
}

/** Pictures that a page shows small: those a browser draws, while they are no burden. */
const DRAWN = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
const PREVIEW_MAX = 1_000_000;

/** Whether a preview costs nobody a link: a picture, not large, and all of it at this relay already. */
export function hasPreview(file: SharedFile): boolean {
  return DRAWN.includes(file.media_type) && file.bytes <= PREVIEW_MAX && file.here >= file.bytes;
}

export const fileUrl = (file: SharedFile) => at(`/api/v1/files/${file.id}`);

/** Nothing has left for so long: the line is dead. The relay itself waits 10 s for more. */
export const STALL_MS = 15_000;
/** All of it has left, and the relay has not said that it is stored. */
export const STORE_MS = 30_000;

export interface Sending {
  /** Fails with a {@link Problem}; its status is 0 when the line broke. */
  done: Promise<void>;
  stop(): void;
}

/** Gives the room a file. XMLHttpRequest, because fetch does not say how much of a body has left. */
export function giveFile(
  room: string,
  file: File,
  from: string,
  token: string | undefined,
  onShare: (share: number) => void,
): Sending {
  const request = new XMLHttpRequest();
  const query = new URLSearchParams({ name: file.name, from });
  request.open("POST", at(`/api/v1/rooms/${room}/files?${query}`));
  if (file.type) request.setRequestHeader("content-type", file.type);
  if (token) request.setRequestHeader("authorization", `Bearer ${token}`);
  let stopped = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const within = (ms: number) => {
    clearTimeout(timer);
    timer = setTimeout(() => request.abort(), ms);
  };
  const done = new Promise<void>((resolve, reject) => {
    request.upload.onprogress = (event) => {
      if (!event.lengthComputable) return;
      within(event.loaded < event.total ? STALL_MS : STORE_MS);
      onShare(event.loaded / Math.max(event.total, 1));
    };
    request.onload = () => {
      if (request.status === 201) resolve();
      else reject(refusalOf(request));
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => (stopped ? resolve() : reject(unreachable()));
  }).finally(() => clearTimeout(timer));
  within(STALL_MS);
  request.send(file);
  return {
    done,
    stop: () => {
      stopped = true;
      request.abort();
    },
  };
}

function refusalOf(request: XMLHttpRequest): Problem {
  const wait = retryAfter(request.getResponseHeader("retry-after"), Date.now());
  let title: unknown;
  try {
    ({ title } = JSON.parse(request.responseText) as { title?: unknown });
  } catch {
    // Whatever is between us and the relay answered.
  }
  return new Problem(
    request.status,
    typeof title === "string" ? sentence(title) : "The relay did not take the file.",
    undefined,
    wait,
  );
}

/** `482 kB`, as people say it. */
export function size(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 9.95 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}
