// The relay's JSON (docs/api.md) as types, and the requests that read it.
import { Problem, problemOf, unreachable } from "./problem";
import { at } from "./root";

export type Kind = "audio" | "video";

export interface Track {
  kind: Kind;
  codec: string;
  layers: number;
}

/** One live stream, seen from the relay that was asked. */
export interface Stream {
  name: string;
  tracks: Track[];
  origin_zone: string;
  hops: number;
  path: string[];
  age_ms: number;
  listeners: number;
  heard_in: string[];
  /** Only at the relay where it is published, while its publisher is connected. */
  publisher?: PublisherHealth;
  /** Listeners at this relay that cannot play what a track is now. */
  cannot_play?: { codec: string; listeners: number }[];
}

/** What whoever runs a publisher should know. */
export interface PublisherHealth {
  dropped_too_large: number;
  answers_keyframe_requests?: boolean;
}

export interface MeshNode {
  id: string;
  zone: string;
  since: string;
}

export interface MeshLink {
  a: string;
  b: string;
  rtt_ms: number;
  loss: number;
  cost: number;
  up: boolean;
  /** What it is thought to carry at least; only of a link that was full. */
  capacity_bps?: number;
}

/** An area of a large mesh, or a part of one; only of the relay's own are relays and links known. */
export interface MeshArea {
  area: number;
  fragment: string;
  relays: number;
  publishers: number;
  hops: number;
  cost: number;
  path: number[];
}

export interface WeakSpot {
  cuts_off: string[];
  warning: string;
}

export interface Mesh {
  self: string;
  nodes: MeshNode[];
  links: MeshLink[];
  articulation_points: (WeakSpot & { node: string })[];
  bridges: (WeakSpot & { a: string; b: string })[];
  /** The own area first; empty or missing while there is no other. */
  areas?: MeshArea[];
}

export interface Message {
  id: string;
  author: string;
  text: string;
  /** Of the relay that signed it, whatever author and text say. */
  zone: string;
  /** The relay that was asked does not know where that one stands: `zone` is what the message says. */
  zone_unproven?: boolean;
  /** The relay that signed it, in eight characters. */
  relay?: string;
  sent_at: string;
  /** Written by a clock that is more than a minute ahead of the relay's. */
  clock_ahead?: boolean;
}

/** Where a message comes from, by the signature of its relay. */
export const origin = (message: Message): string =>
  message.zone_unproven ? `from a relay that says it is in zone ${message.zone}` : `from zone ${message.zone}`;

/** The answer to a posted message or announcement. */
export interface Posted {
  id: string;
  /** `mesh`: on another relay's disk too. */
  saved: "here" | "mesh";
}

/** A file somebody gave to a room. */
export interface SharedFile {
  id: string;
  name: string;
  bytes: number;
  media_type: string;
  from: string;
  zone: string;
  sent_at: string;
  here: number;
}

export interface Version {
  name: string;
  version: string;
  zone: string;
  node: string;
}

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

const SEGMENT = /^[a-z0-9-]{1,64}$/;

/** Why `name` cannot be a stream's name, or undefined when it can. */
export function streamNameFault(name: string): string | undefined {
  if (name === "") return "Give the stream a name, for example main-stage.";
  const segments = name.split("/");
  if (segments.length > 3) return "At most three parts, joined by /.";
  for (const segment of segments) {
    if (segment === "") return "A part of the name is empty: look at the slashes.";
    if (segment.length > 64) return "Each part has at most 64 characters.";
    if (!SEGMENT.test(segment)) return "Only a to z, 0 to 9 and hyphens, for example main-stage.";
  }
  return undefined;
}

/** The room that goes with a stream: its first segment. */
export function roomOf(stream: string | undefined): string {
  const first = stream?.split("/")[0];
  return first && SEGMENT.test(first) ? first : "lobby";
}

/** `main-stage/commentary` as people read it. */
export function spoken(name: string): string {
  return name
    .split("/")
    .map(
      (part) =>
        part
          .replace(/-+/g, " ")
          .trim()
          .replace(/^./, (c) => c.toUpperCase()) || part,
    )
    .join("\u00a0· "); // The dot ends a line, never begins one.
}

/** What the mesh hangs on, the worst first, as sentences: each once, however many relays a zone has. */
export function weakSpots(mesh: Mesh): string[] {
  const worst = (a: WeakSpot, b: WeakSpot) => b.cuts_off.length - a.cuts_off.length;
  const spots = [...[...mesh.articulation_points].sort(worst), ...[...mesh.bridges].sort(worst)];
  return [...new Set(spots.map((spot) => spot.warning.replace(/^./, (c) => c.toUpperCase())))];
}

const CODECS: Record<string, string> = { opus: "Opus", vp8: "VP8", vp9: "VP9", h264: "H264", av1: "AV1" };

/** A codec as people write it. */
export const codecName = (codec: string) => CODECS[codec] ?? codec;

/** Whether this zone has lost every link to the others it knows of. */
export function cutOff(mesh: Mesh): boolean {
  const own = mesh.links.filter((link) => link.a === mesh.self || link.b === mesh.self);
  return own.length > 0 && own.every((link) => !link.up);
}
