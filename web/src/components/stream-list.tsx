// The live streams of the whole mesh, one row each.

import { spoken } from "../api/names";
import type { Stream } from "../api/types";

export function Chips({ stream }: { stream: Stream }) {
  const kinds = [...new Set(stream.tracks.map((track) => track.kind))].sort();
  return (
    <span class="chips">
      {kinds.map((kind) => (
        <span class="chip" key={kind}>
          {kind === "audio" ? "Sound" : "Picture"}
        </span>
      ))}
      <span class="chip plain">
        {way(stream)}
        {stream.listeners > 0 && `, ${stream.listeners} listening here`}
      </span>
    </span>
  );
}

/** Where it comes from, and how far that is. */
export function way(stream: Stream): string {
  if (stream.hops === 0) return "from this zone";
  return `from ${stream.origin_zone}, ${stream.hops} ${stream.hops === 1 ? "hop" : "hops"}`;
}

export function StreamList(props: { streams: Stream[]; chosen: string | undefined; onChoose(name: string): void }) {
  return (
    <ul class="streams">
      {props.streams.map((stream) => (
        <li key={stream.name}>
          <button
            type="button"
            class="stream"
            aria-current={stream.name === props.chosen ? "true" : undefined}
            onClick={() => props.onChoose(stream.name)}
          >
            <span class="beat" aria-hidden="true" />
            <span class="what">
              <strong>{spoken(stream.name)}</strong>
              <Chips stream={stream} />
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}
