// What the listeners of each zone get of the sound, one row each.
import type { Mesh } from "../api/types";
import { hearingOf } from "../mesh/hearing";

export function HearingRows({ mesh }: { mesh: Mesh }) {
  const zones = hearingOf(mesh);
  if (zones.length === 0) return <p class="quiet">Nobody has listened yet.</p>;
  return (
    <ul class="rows">
      {zones.map(({ zone, listeners, text }) => (
        <li key={zone}>
          <b>{zone}</b>
          <span class="chips">{listeners > 0 && <span class="chip">{listeners} listening</span>}</span>
          <span class="quiet">{text}</span>
        </li>
      ))}
    </ul>
  );
}
