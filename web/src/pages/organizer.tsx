// `/organizer`: the zones, the links between them and the streams that cross them, as this relay knows.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { roomOf, spoken } from "../api/names";
import { getAnnouncements, getClockSkew, getMessages } from "../api/requests";
import type { Mesh, MeshArea, MeshLink, Message, Stream } from "../api/types";
import { Announce, Told } from "../components/announce";
import { Header } from "../components/header";
import { Health } from "../components/health";
import { MeshMap } from "../components/mesh-map";
import { useMesh, usePolled, useStreams } from "../hooks/polling";
import { findings, hints, otherAreas, zoneOf, zonesAhead } from "../mesh/health";
import { keep, missing, recall, remember } from "../mesh/known-relays";

const ASK_MS = 2_000;
const NEWS_MS = 3_000;
/** Clocks do not go wrong from one second to the next. */
const CLOCKS_MS = 30_000;
/** Rooms whose messages are looked through for wrong clocks: the lobby and those of so many streams. */
const ROOMS_MAX = 6;

async function getRooms(streams: readonly Stream[]): Promise<Message[][]> {
  const rooms = new Set(["lobby", ...streams.map((stream) => roomOf(stream.name))]);
  return Promise.all([...rooms].slice(0, ROOMS_MAX).map(getMessages));
}

function Organizer() {
  const { value: mesh, fault } = useMesh(ASK_MS);
  const { value: streams } = useStreams(ASK_MS);
  const told = usePolled(getAnnouncements, NEWS_MS);
  const { value: rooms } = usePolled(() => getRooms(streams ?? []), CLOCKS_MS);
  const { value: skewMs } = usePolled(getClockSkew, CLOCKS_MS);
  const own = mesh?.nodes.find((node) => node.id === mesh.self)?.zone;
  const [known, setKnown] = useState(recall);
  useEffect(() => {
    if (!mesh) return;
    const next = remember(known, mesh, Date.now());
    keep(next);
    setKnown(next);
  }, [mesh]);
  const gone = mesh ? missing(known, mesh) : [];
  const forget = () => {
    const next = known.filter((one) => !gone.includes(one));
    keep(next);
    setKnown(next);
  };
  const ahead = zonesAhead([...(rooms ?? []), told.value ?? []]);
  return (
    <>
      <Header zone={own} page="Festival" />
      <main class="organizer">
        {fault && (
          <p class="warning" role="alert">
            The relay does not answer; what is shown may be old.
          </p>
        )}
        <div class="column">
          <section class="panel first">
            <h2>To look at</h2>
            {mesh ? (
              <Health
                mesh={mesh}
                found={findings(mesh, gone, ahead, skewMs)}
                onForget={gone.length > 0 ? forget : undefined}
              />
            ) : (
              <p class="quiet">Asking the relay</p>
            )}
          </section>
          <section class="panel">
            <h2>Zones</h2>
            {mesh ? <MeshMap mesh={mesh} streams={streams ?? []} /> : <p class="quiet">Asking the relay</p>}
          </section>
          <section class="panel">
            <h2>Links</h2>
            {mesh && <Links mesh={mesh} />}
          </section>
          {mesh?.areas && mesh.areas.length > 0 && (
            <section class="panel">
              <h2>Areas</h2>
              <Areas areas={mesh.areas} />
            </section>
          )}
        </div>
        <div class="column">
          <section class="panel second">
            <h2>Tell everybody</h2>
            <Announce mesh={mesh} gone={gone} onSent={told.again} />
            <h2>Told so far</h2>
            <Told messages={told.value ?? []} />
          </section>
          <section class="panel">
            <h2>Streams</h2>
            <Streams streams={streams ?? []} />
          </section>
        </div>
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

/** Broken ones first, then those that lose most. */
const downFirst = (a: MeshLink, b: MeshLink) => Number(a.up) - Number(b.up) || b.loss - a.loss;

/** Links shown until all are asked for; the broken ones come first. */
const LINKS_SHOWN = 8;

function Links({ mesh }: { mesh: Mesh }) {
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
function Areas({ areas }: { areas: MeshArea[] }) {
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

render(<Organizer />, document.getElementById("page")!);
