// Where the relays stand in the picture of the mesh: on a ring, in an order in which most links join
// neighbors, so that a chain is drawn as a chain. Pure.
import type { Mesh } from "../api/types";

export interface Place {
  x: number;
  y: number;
}

/** Ids in the order in which a walk along the links meets them, beginning at an end. */
export function ringOrder(mesh: Mesh): string[] {
  const neighbors = new Map(mesh.nodes.map((node) => [node.id, new Set<string>()]));
  for (const { a, b } of mesh.links) {
    if (!neighbors.has(a) || !neighbors.has(b)) continue;
    neighbors.get(a)!.add(b);
    neighbors.get(b)!.add(a);
  }
  const zone = new Map(mesh.nodes.map((node) => [node.id, node.zone]));
  const degree = (id: string) => neighbors.get(id)!.size;
  // The order must not change from one answer to the next: zone and id decide where links do not.
  const byDegree = (a: string, b: string) =>
    degree(a) - degree(b) || zone.get(a)!.localeCompare(zone.get(b)!) || a.localeCompare(b);
  const order = new Set<string>();
  for (const start of [...neighbors.keys()].sort(byDegree)) {
    const todo = [start];
    for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
      if (order.has(id)) continue;
      order.add(id);
      todo.push(
        ...[...neighbors.get(id)!]
          .filter((next) => !order.has(next))
          .sort(byDegree)
          .reverse(),
      );
    }
  }
  return [...order];
}

/** `count` places on a ring around 0, 0. None is exactly left or right of the middle, where names would collide, but of two. */
export function ringPlaces(count: number, radius: number): Place[] {
  if (count === 1) return [{ x: 0, y: 0 }];
  const start = count === 2 ? Math.PI : -Math.PI / 2 - (count % 4 === 0 ? Math.PI / count : 0);
  return Array.from({ length: count }, (_, index) => {
    const turn = start + (index / count) * 2 * Math.PI;
    return { x: radius * Math.cos(turn), y: radius * Math.sin(turn) };
  });
}
