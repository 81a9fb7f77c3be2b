// The requests that read what the relay knows (docs/api.md).
import { Problem, problemOf, unreachable } from "./problem";
import { at } from "./root";
import type { Mesh, Message, Stream, Version } from "./types";

async function get<T>(path: string): Promise<T> {
  let response: Response;
  try {
    response = await fetch(at(path), { headers: { accept: "application/json" }, cache: "no-store" });
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  try {
    return (await response.json()) as T;
  } catch {
    throw new Problem(response.status, "The relay's answer could not be read.");
  }
}

export const getStreams = () => get<Stream[]>("/api/v1/streams");
export const getAnnouncements = () => get<Message[]>("/api/v1/announcements");
export const getMessages = (room: string) => get<Message[]>(`/api/v1/rooms/${room}/messages`);
export const getMesh = () => get<Mesh>("/api/v1/mesh");
export const getVersion = () => get<Version>("/version");

/** Milliseconds this device's clock is ahead of the relay's, as far as whole seconds say; undefined without `Date`. */
export async function getClockSkew(): Promise<number | undefined> {
  const before = Date.now();
  let response: Response;
  try {
    response = await fetch(at("/version"), { cache: "no-store" });
  } catch {
    throw unreachable();
  }
  const relay = Date.parse(response.headers.get("date") ?? "");
  return Number.isNaN(relay) ? undefined : (before + Date.now()) / 2 - relay;
}
