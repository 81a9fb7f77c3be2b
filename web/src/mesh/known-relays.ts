// Relays this browser has seen in the mesh, so that one that is gone is missed: the relays themselves
// forget a neighbor that left. Pure but for where it is kept.
import type { Mesh } from "../api/types";
import { lasting } from "../device/storage";

export interface KnownRelay {
  id: string;
  zone: string;
  /** When it was last in the mesh, by this device's clock. */
  at: number;
}

/** A relay that was gone for so long was taken home. */
const KEPT_MS = 24 * 3_600_000;
const RELAYS_MAX = 300;
/** Browsers keep them under their first name. */
const KEY = "seen";

/** What is remembered after `mesh` was seen: its relays, and those that were there before and are not now. */
export function remember(known: readonly KnownRelay[], mesh: Mesh, now: number): KnownRelay[] {
  const here = mesh.nodes.map(({ id, zone }): KnownRelay => ({ id, zone, at: now }));
  const ids = new Set(here.map((one) => one.id));
  const gone = known.filter((one) => !ids.has(one.id) && now - one.at < KEPT_MS && one.at <= now);
  return [...here, ...gone].slice(0, RELAYS_MAX);
}

/** Those of them that are not in `mesh`. */
export function missing(known: readonly KnownRelay[], mesh: Mesh): KnownRelay[] {
  const ids = new Set(mesh.nodes.map((node) => node.id));
  return known.filter((one) => !ids.has(one.id)).sort((a, b) => a.zone.localeCompare(b.zone));
}

/** What was kept of the mesh this relay is in. */
export function recall(): KnownRelay[] {
  try {
    const kept: unknown = JSON.parse(lasting.get(KEY) ?? "[]");
    const whole = (one: Partial<KnownRelay> | null) =>
      typeof one?.id === "string" && typeof one.zone === "string" && typeof one.at === "number";
    return Array.isArray(kept) ? (kept.filter(whole) as KnownRelay[]) : [];
  } catch {
    return [];
  }
}

export const keep = (known: readonly KnownRelay[]) => lasting.set(KEY, JSON.stringify(known));
