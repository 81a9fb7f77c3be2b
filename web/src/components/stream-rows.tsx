// The live streams as an organizer looks at them: the way they take, who hears them, what is wrong with them.
import { spoken } from "../api/names";
import type { Stream } from "../api/types";
import { hints } from "../mesh/health";

export function StreamRows({ streams }: { streams: Stream[] }) {
  if (streams.length === 0) return <p class="quiet">Nobody is live.</p>;
  return (
    <ul class="rows">
      {streams.map((stream) => (
        <li key={stream.name}>
          <b>{spoken(stream.name)}</b>
          <span class="chips">
            {stream.tracks.map((track) => (
              <span class="chip" key={track.kind + track.codec}>
                {track.codec}
              </span>
            ))}
          </span>
          <span class="quiet">
            {(stream.path.length > 0 ? stream.path : [stream.origin_zone]).join(" → ")} · {stream.listeners} listening
            here
            {stream.heard_in.length > 0 && ` · heard in ${stream.heard_in.join(", ")}`}
          </span>
          {hints(stream.publisher).map((hint) => (
            <span class="quiet" role="note" key={hint}>
              {hint}
            </span>
          ))}
        </li>
      ))}
    </ul>
  );
}
