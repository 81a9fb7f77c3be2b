// The files of a room: their list, and giving it one. Where the bytes travel is the relays' business.
import { type SharedFile } from "./api";
import { Problem, problemOf, unreachable } from "./problem";

/** A file on its way to the relay. */
export interface Giving {
  name: string;
  /** 0 to 1. */
  share: number;
  stop(): void;
}

export async function listFiles(room: string): Promise<SharedFile[]> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/rooms/${room}/files`, { cache: "no-store" });
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as SharedFile[];
}

export const fileUrl = (file: SharedFile) => `/api/v1/files/${file.id}`;

/** Gives the room a file. XMLHttpRequest, because fetch does not say how much of a body has left. */
export function giveFile(
  room: string,
  file: File,
  from: string,
  token: string | undefined,
  onShare: (share: number) => void,
): { done: Promise<void>; stop(): void } {
  const request = new XMLHttpRequest();
  const query = new URLSearchParams({ name: file.name, from });
  request.open("POST", `/api/v1/rooms/${room}/files?${query}`);
  if (file.type) request.setRequestHeader("content-type", file.type);
  if (token) request.setRequestHeader("authorization", `Bearer ${token}`);
  const done = new Promise<void>((resolve, reject) => {
    request.upload.onprogress = (event) => event.lengthComputable && onShare(event.loaded / Math.max(event.total, 1));
    request.onload = () => {
      if (request.status === 201) resolve();
      else reject(new Problem(request.status, titleOf(request.responseText)));
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => resolve();
  });
  request.send(file);
  return { done, stop: () => request.abort() };
}

function titleOf(text: string): string {
  try {
    const { title } = JSON.parse(text) as { title?: unknown };
    if (typeof title === "string") return `${title.charAt(0).toUpperCase()}${title.slice(1)}.`;
  } catch {
    // Whatever is between us and the relay answered.
  }
  return "The relay did not take the file.";
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
