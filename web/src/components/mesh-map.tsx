// The mesh as a picture: relays on a circle, links as lines, a broken one dashed.
import type { Mesh, Stream } from "../api";

const SIZE = 360;
const RING = 118;

export function MeshMap({ mesh, streams }: { mesh: Mesh; streams: Stream[] }) {
  const nodes = [...mesh.nodes].sort((a, b) => a.zone.localeCompare(b.zone) || a.id.localeCompare(b.id));
  const place = new Map(
    nodes.map((node, index) => {
      const turn = (index / nodes.length) * 2 * Math.PI - Math.PI / 2;
      const radius = nodes.length === 1 ? 0 : RING;
      return [node.id, { x: SIZE / 2 + radius * Math.cos(turn), y: SIZE / 2 + radius * Math.sin(turn) }];
    }),
  );
  const origins = new Set(streams.map((stream) => stream.origin_zone));
  return (
    <svg class="map" viewBox={`0 0 ${SIZE} ${SIZE}`} role="img" aria-label={`${nodes.length} relays, ${mesh.links.length} links`}>
      {mesh.links.map((link) => {
        const a = place.get(link.a);
        const b = place.get(link.b);
        if (!a || !b) return null;
        return (
          <g key={`${link.a}${link.b}`} class={link.up ? "link" : "link down"}>
            <line x1={a.x} y1={a.y} x2={b.x} y2={b.y} />
            <text x={(a.x + b.x) / 2} y={(a.y + b.y) / 2 - 6}>
              {link.up ? `${link.rtt_ms.toFixed(link.rtt_ms < 10 ? 1 : 0)} ms` : "down"}
            </text>
          </g>
        );
      })}
      {nodes.map((node) => {
        const at = place.get(node.id)!;
        return (
          <g key={node.id} class={`node ${node.id === mesh.self ? "self" : ""} ${origins.has(node.zone) ? "origin" : ""}`}>
            <circle cx={at.x} cy={at.y} r="22" />
            <text x={at.x} y={at.y + 40}>
              {node.zone}
            </text>
            {origins.has(node.zone) && <path d={`M${at.x - 5} ${at.y - 8}v16l13 -8z`} />}
          </g>
        );
      })}
    </svg>
  );
}
