// `/organizer`: the zones, the links between them and the streams that cross them, as this relay knows.
import { render } from "preact";
import { spoken, weakSpots, type Mesh, type Stream } from "../api";
import { Header } from "../components/header";
import { MeshMap } from "../components/mesh-map";
import { useMesh, useStreams } from "../live";

const ASK_MS = 2_000;

function Organizer() {
  const { value: mesh, fault } = useMesh(ASK_MS);
  const { value: streams } = useStreams(ASK_MS);
  const own = mesh?.nodes.find((node) => node.id === mesh.self)?.zone;
  return (
    <>
      <Header zone={own} page="Festival" />
      <main class="organizer">
        {fault && (
          <p class="warning" role="alert">
            The relay does not answer; what is shown may be old.
          </p>
        )}
        <section class="panel map-panel">
          <h2>Zones</h2>
          {mesh ? <MeshMap mesh={mesh} streams={streams ?? []} /> : <p class="quiet">Asking the relay</p>}
        </section>
        <section class="panel">
          <h2>Streams</h2>
          <Streams streams={streams ?? []} />
        </section>
        <section class="panel">
          <h2>Links</h2>
          {mesh && <WeakSpots mesh={mesh} />}
          {mesh && <Links mesh={mesh} />}
        </section>
      </main>
    </>
  );
}

function Streams({ streams }: { streams: Stream[] }) {
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
            {(stream.path.length > 0 ? stream.path : [stream.origin_zone]).join(" → ")} · {stream.listeners} listening here
            {stream.heard_in.length > 0 && ` · heard in ${stream.heard_in.join(", ")}`}
          </span>
        </li>
      ))}
    </ul>
  );
}

/** Lines shown; a chain of a hundred relays has two hundred. */
const SPOTS_MAX = 4;

function WeakSpots({ mesh }: { mesh: Mesh }) {
  const spots = weakSpots(mesh);
  if (spots.length === 0) return null;
  return (
    <ul class="spots" role="status">
      {spots.slice(0, SPOTS_MAX).map((spot) => (
        <li key={spot}>{spot}.</li>
      ))}
      {spots.length > SPOTS_MAX && <li class="quiet">And {spots.length - SPOTS_MAX} more.</li>}
    </ul>
  );
}

function Links({ mesh }: { mesh: Mesh }) {
  const zone = (id: string) => mesh.nodes.find((node) => node.id === id)?.zone ?? id.slice(0, 8);
  if (mesh.links.length === 0) return <p class="quiet">This relay is not bridged to another one.</p>;
  return (
    <ul class="rows">
      {mesh.links.map((link) => (
        <li key={`${link.a}${link.b}`} class={link.up ? "up" : "down"}>
          <b>
            {zone(link.a)} – {zone(link.b)}
          </b>
          <span class="chips">
            <span class={`chip ${link.up ? "" : "bad"}`}>{link.up ? "up" : "down"}</span>
          </span>
          <span class="quiet">
            {link.up
              ? `${link.rtt_ms.toFixed(link.rtt_ms < 10 ? 1 : 0)} ms round trip · ${(link.loss * 100).toFixed(1)} % lost · cost ${link.cost}`
              : "nothing gets across"}
          </span>
        </li>
      ))}
    </ul>
  );
}

render(<Organizer />, document.getElementById("page")!);
