// What an organizer should look at, decided from what this relay knows: broken links, zones out of reach,
// wrong clocks, and what the mesh hangs on. Pure.

import type { Mesh, Message, PublisherHealth } from "../api/types";
import { clock } from "../device/time";
import { cutOff, weakSpots } from "./cuts";
import type { KnownRelay } from "./known-relays";

/** bad: people miss something now. warn: they might. */
export interface Finding {
  tone: "bad" | "warn";
  text: string;
  /** What to do, where that is not plain. */
  advice?: string;
}

/** The relay marks messages from this on; this device is held to the same. */
const AHEAD_MS = 60_000;

export function zoneOf(mesh: Mesh, id: string): string {
  return mesh.nodes.find((node) => node.id === id)?.zone ?? id.slice(0, 8);
}

/** Zones that can be reached over links that are up, this one first, and those that cannot, those of `gone` included. */
export function reach(mesh: Mesh, gone: readonly KnownRelay[] = []): { reached: string[]; lost: string[] } {
  const found = new Set([mesh.self]);
  for (const at of found) {
    for (const link of mesh.links) {
      if (!link.up) continue;
      if (link.a === at) found.add(link.b);
      if (link.b === at) found.add(link.a);
    }
  }
  const own = zoneOf(mesh, mesh.self);
  const zones = (wanted: boolean) =>
    mesh.nodes.filter((node) => found.has(node.id) === wanted).map((node) => node.zone);
  const reached = [...new Set([own, ...zones(true).sort()])];
  const lost = new Set([...zones(false), ...gone.map((one) => one.zone)].sort());
  return { reached, lost: [...lost].filter((zone) => !reached.includes(zone)) };
}

/** Zones whose last word in one of these rooms was written by a clock more than a minute ahead of this relay's. */
export function zonesAhead(rooms: readonly (readonly Message[])[]): string[] {
  const ahead = new Set<string>();
  for (const room of rooms) {
    const last = new Map(room.map((message) => [message.zone, message]));
    for (const [zone, message] of last) if (message.clock_ahead) ahead.add(zone);
  }
  return [...ahead].sort();
}

/** `gone`: relays that were in the mesh and are not any more. `skewMs`: how far this device's clock is ahead of the relay's, when that is known. */
export function findings(
  mesh: Mesh,
  gone: readonly KnownRelay[],
  ahead: readonly string[],
  skewMs: number | undefined,
): Finding[] {
  const own = zoneOf(mesh, mesh.self);
  const found: Finding[] = [];
  const { reached, lost } = reach(mesh);
  const alone = cutOff(mesh);
  if (alone) {
    found.push({
      tone: "bad",
      text: `${own} has lost every link`,
      advice: "It goes on by itself: what is said and published here stays here until a link is back.",
    });
  }
  for (const link of mesh.links) {
    const told = alone && (link.a === mesh.self || link.b === mesh.self);
    if (!link.up && !told)
      found.push({ tone: "bad", text: `The link between ${zoneOf(mesh, link.a)} and ${zoneOf(mesh, link.b)} is down` });
  }
  if (lost.length > 0) found.push({ tone: "bad", text: `Out of reach from ${own}: ${lost.join(", ")}` });
  for (const { zone, warning } of mesh.misfits ?? []) {
    found.push({
      tone: "bad",
      text: `The relay of ${zone} and this one are of releases that do not fit`,
      advice: warning,
    });
  }
  if (mesh.older_disk) {
    found.push({
      tone: "warn",
      text: `The disk of ${own} is older than what was said there`,
      advice: mesh.older_disk.warning,
    });
  }
  if (mesh.key_twice) {
    const { second, warning } = mesh.key_twice;
    found.push({
      tone: "bad",
      text: second ? `${own} has the key of another relay, and no links` : "Two relays have one key",
      advice: warning,
    });
  }
  if (mesh.store) {
    const { history, warning } = mesh.store;
    found.push({
      tone: history ? "warn" : "bad",
      text: history ? `The records on the disk of ${own} were damaged` : `The disk of ${own} takes no records`,
      advice: warning,
    });
  }
  found.push(...splitAreas(mesh));
  for (const { zone, at } of gone) {
    found.push({
      tone: "bad",
      text: `The relay of ${zone} is gone since ${clock(new Date(at).toISOString())}`,
      advice: "Either it or the last link to it has failed. Is its power on, does its link blink?",
    });
  }
  found.push(...clocks(own, reached.concat(lost).length - 1, ahead, skewMs));
  found.push(...weakSpots(mesh).map((text): Finding => ({ tone: "warn", text })));
  return found;
}

/** Areas of which parts cannot reach each other but over other areas. */
function splitAreas(mesh: Mesh): Finding[] {
  const parts = new Map<number, number>();
  for (const { area } of mesh.areas ?? []) parts.set(area, (parts.get(area) ?? 0) + 1);
  return [...parts]
    .filter(([, count]) => count > 1)
    .map(([area, count]) => ({
      tone: "bad",
      text: `Area ${area} has come apart into ${count} parts`,
      advice:
        "Links inside it are missing; what goes from part to part takes the way through other areas, if there is one.",
    }));
}

/** The other areas, by number. */
export function otherAreas(mesh: Mesh): number[] {
  const [own, ...others] = mesh.areas ?? [];
  return [...new Set(others.map((one) => one.area))].filter((area) => area !== own?.area).sort((a, b) => a - b);
}

function clocks(own: string, others: number, ahead: readonly string[], skewMs: number | undefined): Finding[] {
  const found: Finding[] = [];
  const foreign = ahead.filter((zone) => zone !== own);
  if (others > 1 && foreign.length >= others) {
    found.push({
      tone: "warn",
      text: `The clocks of all other zones are ahead of ${own}'s`,
      advice: `So it is likely ${own}'s clock that is behind: set it, or run “relay-node doctor” there.`,
    });
  } else if (foreign.length > 0) {
    found.push({
      tone: "warn",
      text: `The clock in ${foreign.join(", ")} is more than a minute ahead of ${own}'s`,
      advice:
        "Times shown with what is said there are wrong. Set the clock of that relay's machine, or run “relay-node doctor” there.",
    });
  }
  if (skewMs !== undefined && Math.abs(skewMs) > AHEAD_MS) {
    const how = `${lasting(Math.abs(skewMs))} ${skewMs > 0 ? "behind" : "ahead of"}`;
    found.push({
      tone: "warn",
      text: `${own}'s clock is ${how} this device's`,
      advice: "One of the two is wrong; phones in a network usually are right.",
    });
  }
  return found;
}

function lasting(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

/** What whoever runs the publisher of a stream should do something about. */
export function hints(publisher?: PublisherHealth): string[] {
  const said: string[] = [];
  if (publisher && publisher.dropped_too_large > 0) {
    said.push(
      "Nobody gets a whole picture: packets longer than 1500 bytes are dropped. Lower the MTU of the encoder (GStreamer: rtph264pay mtu=1200).",
    );
  }
  if (publisher?.answers_keyframe_requests === false) {
    said.push(
      "This encoder sends no keyframe when it is asked: who joins later may wait for its next one. Set a keyframe every 1 to 2 seconds.",
    );
  }
  return said;
}
