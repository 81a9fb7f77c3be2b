// What needs the organizer's eye, in sentences, the worst first; or that nothing does.
import type { Mesh } from "../api/types";
import { type Finding, otherAreas } from "../mesh/health";

/** Lines shown at once; a chain of a hundred relays has two hundred. */
const SHOWN = 5;

export function Health({
  mesh,
  found,
  onForget,
}: {
  mesh: Mesh;
  found: Finding[];
  onForget: (() => void) | undefined;
}) {
  if (found.length === 0) {
    const alone =
      otherAreas(mesh).length > 0
        ? "All is well; this relay is the only one of its area."
        : "This relay is alone: it knows of no other.";
    const fine = mesh.nodes.length > 1 ? "All links are up. No single relay or link cuts anybody off." : alone;
    return (
      <p class="fine" role="status">
        {fine}
      </p>
    );
  }
  return (
    <div class="findings" role="status">
      <ul>
        {found.slice(0, SHOWN).map((one) => (
          <Line key={one.text} one={one} />
        ))}
      </ul>
      {found.length > SHOWN && (
        <details>
          <summary>{found.length - SHOWN} more</summary>
          <ul>
            {found.slice(SHOWN).map((one) => (
              <Line key={one.text} one={one} />
            ))}
          </ul>
        </details>
      )}
      {onForget && (
        <button type="button" class="wide ghost" onClick={onForget}>
          Taken down on purpose? Forget what is gone
        </button>
      )}
    </div>
  );
}

function Line({ one }: { one: Finding }) {
  return (
    <li class={one.tone}>
      <svg viewBox="0 0 20 20" role="img" aria-label={one.tone === "bad" ? "Broken" : "At risk"}>
        {one.tone === "bad" ? <path d="m5 5 10 10M15 5 5 15" /> : <path d="M10 3v9m0 4v.5" />}
      </svg>
      <span>
        {one.text}.{one.advice && <small>{one.advice}</small>}
      </span>
    </li>
  );
}
