// What the mesh hangs on, and whether this zone has come off it. Pure.
import type { Mesh, WeakSpot } from "../api/types";

/** What the mesh hangs on, the worst first, as sentences: each once, however many relays a zone has. */
export function weakSpots(mesh: Mesh): string[] {
  const worst = (a: WeakSpot, b: WeakSpot) => b.cuts_off.length - a.cuts_off.length;
  const spots = [...[...mesh.articulation_points].sort(worst), ...[...mesh.cut_links].sort(worst)];
  return [...new Set(spots.map((spot) => spot.warning.replace(/^./, (c) => c.toUpperCase())))];
}

/** Whether this zone has lost every link to the others it knows of. */
export function cutOff(mesh: Mesh): boolean {
  const own = mesh.links.filter((link) => link.a === mesh.self || link.b === mesh.self);
  return own.length > 0 && own.every((link) => !link.up);
}
