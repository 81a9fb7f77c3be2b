// The mesh as a picture: relays on a ring, links as lines, a broken one dashed, what others hang on in amber.
import type { Mesh, Stream } from "../api";
import { ringOrder, ringPlaces, type Place } from "../ring";

const WIDTH = 400;
const RING = 128;
const DOT = 22;
/** More links than this carry no figures: the list below has them. */
const FIGURES_MAX = 14;
/** Longer names are cut; the whole name is in the title and in the lists. */
const NAME_MAX = 16;

export function MeshMap({ mesh, streams }: { mesh: Mesh; streams: Stream[] }) {
  const order = ringOrder(mesh);
  const places = ringPlaces(order.length, RING);
  const dot = Math.min(DOT, (Math.PI * RING * 0.62) / Math.max(order.length, 1));
  const top = Math.min(0, ...places.map(({ y }) => y)) - dot - 34;
  const bottom = Math.max(0, ...places.map(({ y }) => y)) + dot + 34;
  const place = new Map(order.map((id, index) => [id, places[index]!]));
  const zone = new Map(mesh.nodes.map((node) => [node.id, node.zone]));
  const origins = new Set(streams.map((stream) => stream.origin_zone));
  const weak = new Set(mesh.articulation_points.map((point) => point.node));
  const weakLinks = new Set(mesh.bridges.flatMap(({ a, b }) => [a + b, b + a]));
  const down = mesh.links.filter((link) => !link.up).length;
  const said = `${count(order.length, "relay")}, ${count(mesh.links.length, "link")}, ${down} down`;
  return (
    <>
      <svg class="map" viewBox={`${-WIDTH / 2} ${top} ${WIDTH} ${bottom - top}`} role="img" aria-label={said}>
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
            <g key={id} class={`node ${self ? "self" : ""} ${weak.has(id) ? "weak" : ""} ${origins.has(name) ? "origin" : ""}`}>
              <title>{`${name}${self ? ", this relay" : ""}${weak.has(id) ? ", others hang on it" : ""}`}</title>
              {weak.has(id) && <circle class="halo" cx={at.x} cy={at.y} r={dot + 5} />}
              <circle cx={at.x} cy={at.y} r={dot} />
              {origins.has(name) && <path transform={`translate(${at.x} ${at.y}) scale(${dot / DOT})`} d="M-6 -9v18l15 -9z" />}
              <text x={at.x} y={at.y < -1 ? at.y - dot - 12 : at.y + dot + 23}>
                {[...name].length > NAME_MAX ? `${[...name].slice(0, NAME_MAX - 1).join("")}…` : name}
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

/** Beside the middle of a line, on its outer side. */
function beside(a: Place, b: Place): Place {
  const [x, y] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const normal = { x: (b.y - a.y) / length, y: (a.x - b.x) / length };
  // A line through the middle has no outer side: above it, then.
  const outward = x * normal.x + y * normal.y || -normal.y;
  const side = (outward < 0 ? -1 : 1) * 13;
  // Letters are wider than high.
  return { x: x + normal.x * side * 1.5, y: y + normal.y * side + 4 };
}

const count = (n: number, what: string) => `${n} ${what}${n === 1 ? "" : "s"}`;
