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

/** Nothing to choose from: nobody is live, or it is not known yet who is. */
export function NoStream({ streams, fault }: { streams: Stream[] | undefined; fault: boolean }) {
  if (streams === undefined) {
    return (
      <p class="empty" role="status">
        {fault ? "The relay does not answer. Are you still on the festival's Wi-Fi?" : "Looking for live stages"}
      </p>
    );
  }
  if (streams.length > 0) return null;
  return (
    <div class="empty" role="status">
      <h1>Nobody is live yet</h1>
      <p>This page shows every stage of the festival the moment it starts.</p>
    </div>
  );
}
