// The links of the mesh and the areas around it, one row each.
import { useState } from "preact/hooks";
import type { Mesh, MeshArea, MeshLink } from "../api/types";
import { otherAreas, zoneOf } from "../mesh/health";

/** Broken ones first, then those that lose most. */
const downFirst = (a: MeshLink, b: MeshLink) => Number(a.up) - Number(b.up) || b.loss - a.loss;

/** Links shown until all are asked for; the broken ones come first. */
const LINKS_SHOWN = 8;

export function LinkRows({ mesh }: { mesh: Mesh }) {
  const [all, setAll] = useState(false);
  const links = [...mesh.links].sort(downFirst);
  if (mesh.links.length === 0) {
    return (
      <p class="quiet">This relay is not bridged to another one{otherAreas(mesh).length > 0 && " of its area"}.</p>
    );
  }
  return (
    <>
      <ul class="rows">
        {links.slice(0, all ? undefined : LINKS_SHOWN).map((link) => (
          <li key={`${link.a}${link.b}`} class={link.up ? "up" : "down"}>
            <b>
              {zoneOf(mesh, link.a)} – {zoneOf(mesh, link.b)}
            </b>
            <span class="chips">
              <span class={`chip ${link.up ? "" : "bad"}`}>{link.up ? "up" : "down"}</span>
            </span>
            <span class="quiet">
              {link.up
                ? `${link.rtt_ms.toFixed(link.rtt_ms < 10 ? 1 : 0)} ms round trip · ${(link.loss * 100).toFixed(1)} % lost · cost ${link.cost}${full(link)}`
                : "nothing gets across"}
            </span>
          </li>
        ))}
      </ul>
      {links.length > LINKS_SHOWN && (
        <button type="button" class="wide ghost" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? `Only ${LINKS_SHOWN}` : `All ${links.length} links`}
        </button>
      )}
    </>
  );
}

/** Only of a link that was full of late is it known what it carries. */
function full(link: MeshLink): string {
  return link.capacity_bps === undefined
    ? ""
    : ` · was full at ${(link.capacity_bps / 1e6).toFixed(link.capacity_bps < 1e7 ? 1 : 0)} Mbit/s`;
}

/** Of other areas a relay knows only what is at their edge. */
export function AreaRows({ areas }: { areas: MeshArea[] }) {
  return (
    <ul class="rows">
      {areas.map((one, index) => (
        <li key={`${one.area}/${one.fragment}`}>
          <b>Area {one.area}</b>
          <span class="chips">{index === 0 && <span class="chip">this one</span>}</span>
          <span class="quiet">
            {one.relays} {one.relays === 1 ? "relay" : "relays"}, {one.publishers} publishing
            {index > 0 && ` · ${one.hops} ${one.hops === 1 ? "hop" : "hops"} to its edge`}
            {one.path.length > 1 && ` · by way of area ${one.path.slice(0, -1).join(", then ")}`}
          </span>
        </li>
      ))}
    </ul>
  );
}
