// The mesh as a picture: relays on a ring, links as lines, a broken one dashed, what others hang on in amber.
import type { Mesh, Stream } from "../api/types";
import { type Place, ringOrder, ringPlaces } from "../mesh/map-layout";

const WIDTH = 400;
const RING = 128;
const DOT = 22;
/** More links than this carry no figures: the list below has them. */
const FIGURES_MAX = 14;
/** With more relays than this, names point outward: side by side they would cover each other. */
const ACROSS_MAX = 10;
/** Longer names are cut; the whole name is in the title and in the lists. */
const NAME_MAX = 16;

export function MeshMap({ mesh, streams }: { mesh: Mesh; streams: Stream[] }) {
  const order = ringOrder(mesh);
  const places = ringPlaces(order.length, RING);
  const dot = Math.min(DOT, (Math.PI * RING * 0.62) / Math.max(order.length, 1));
  const across = order.length <= ACROSS_MAX;
  const room = across ? 34 : 104;
  const width = across ? WIDTH : 2 * (RING + dot + room);
  const top = Math.min(0, ...places.map(({ y }) => y)) - dot - room;
  const bottom = Math.max(0, ...places.map(({ y }) => y)) + dot + room;
  const place = new Map(order.map((id, index) => [id, places[index]!]));
  const zone = new Map(mesh.nodes.map((node) => [node.id, node.zone]));
  const origins = new Set(streams.map((stream) => stream.origin_zone));
  const weak = new Set(mesh.articulation_points.map((point) => point.node));
  const weakLinks = new Set(mesh.cut_links.flatMap(({ a, b }) => [a + b, b + a]));
  const down = mesh.links.filter((link) => !link.up).length;
  const said = `${count(order.length, "relay")}, ${count(mesh.links.length, "link")}, ${down} down`;
  return (
    <>
      <svg class="map" viewBox={`${-width / 2} ${top} ${width} ${bottom - top}`} role="img" aria-label={said}>
        {mesh.links.map((link) => {
          const a = place.get(link.a);
          const b = place.get(link.b);
          if (!a || !b) return null;
          const state = link.up ? (weakLinks.has(link.a + link.b) ? "weak" : "") : "down";
          return (
            <g key={`${link.a}${link.b}`} class={`link ${state}`}>
              <line x1={a.x} y1={a.y} x2={b.x} y2={b.y} />
              {(mesh.links.length <= FIGURES_MAX || !link.up) && (
                <text {...beside(a, b)}>
                  {link.up ? `${link.rtt_ms.toFixed(link.rtt_ms < 10 ? 1 : 0)} ms` : "down"}
                </text>
              )}
            </g>
          );
        })}
        {order.map((id) => {
          const at = place.get(id)!;
          const name = zone.get(id)!;
          const self = id === mesh.self;
          return (
            <g
              key={id}
              class={`node ${self ? "self" : ""} ${weak.has(id) ? "weak" : ""} ${origins.has(name) ? "origin" : ""}`}
            >
              <title>{`${name}${self ? ", this relay" : ""}${weak.has(id) ? ", others hang on it" : ""}`}</title>
              {weak.has(id) && <circle class="halo" cx={at.x} cy={at.y} r={dot + 5} />}
              <circle cx={at.x} cy={at.y} r={dot} />
              {origins.has(name) && (
                <path transform={`translate(${at.x} ${at.y}) scale(${dot / DOT})`} d="M-6 -9v18l15 -9z" />
              )}
              <text {...(across ? above(at, dot) : outward(at, dot))}>
                {cut(name, across ? NAME_MAX : NAME_MAX - 4)}
              </text>
            </g>
          );
        })}
      </svg>
      <ul class="legend" aria-label="What the picture shows">
        <li class="self">this relay</li>
        {origins.size > 0 && <li class="origin">publishes</li>}
        {weak.size + weakLinks.size > 0 && <li class="weak">others hang on it</li>}
        {down > 0 && <li class="down">link down</li>}
      </ul>
    </>
  );
}

/** Beside the middle of a line, on its inner side: the names are on the outer one. */
function beside(a: Place, b: Place): Place {
  const [x, y] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const normal = { x: (b.y - a.y) / length, y: (a.x - b.x) / length };
  // A line through the middle has no inner side: above it, then.
  const outward = x * normal.x + y * normal.y;
  const side = Math.abs(outward) < 1 ? (normal.y < 0 ? 13 : -13) : outward < 0 ? 13 : -13;
  // Letters are wider than high.
  return { x: x + normal.x * side * 2.1, y: y + normal.y * side + 4 };
}

/** A name over a relay of the upper half, under one of the lower. */
const above = ({ x, y }: Place, dot: number) => ({ x, y: y < -1 ? y - dot - 12 : y + dot + 23 });

/** A name that leads away from the middle, never upside down. */
function outward({ x, y }: Place, dot: number) {
  const turn = (Math.atan2(y, x) * 180) / Math.PI;
  const left = x < 0;
  const from = (left ? -1 : 1) * (dot + 9);
  return {
    class: left ? "ends" : "starts",
    transform: `translate(${x} ${y}) rotate(${left ? turn + 180 : turn}) translate(${from} 4.5)`,
  };
}

const cut = (name: string, most: number) =>
  [...name].length > most ? `${[...name].slice(0, most - 1).join("")}…` : name;

const count = (n: number, what: string) => `${n} ${what}${n === 1 ? "" : "s"}`;
