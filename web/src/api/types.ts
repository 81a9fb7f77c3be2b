// The relay's JSON (docs/api.md) as types.

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
  /** How its listeners fare, if that is known. */
  hearing?: MeshHearing;
}

/** How many of those who hear something at a relay get what. */
export interface MeshHearing {
  low: number;
  mid: number;
  high: number;
  answers: number;
  copies: number;
  repeats: number;
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
  cut_links: (WeakSpot & { a: string; b: string })[];
  /** The own area first; empty or missing while there is no other. */
  areas?: MeshArea[];
  /** Relays without a bridge version in common with the one that was asked. */
  misfits?: { node: string; zone: string; warning: string }[];
  /** Records that the relay that was asked wrote, that its disk does not have, and that others gave back. */
  older_disk?: { records: number; warning: string } | null;
  /** Another relay has the key of one. */
  key_twice?: { second: boolean; warning: string } | null;
  /** What is wrong with the records on the disk of the relay that was asked. */
  store?: { history: boolean; warning: string } | null;
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
