// `/organizer`: the zones, the links between them and the streams that cross them, as this relay knows.
import { render } from "preact";
import { roomOf } from "../api/names";
import { getAnnouncements, getClockSkew, getMessages } from "../api/requests";
import type { Message, Stream } from "../api/types";
import { Announce, Told } from "../components/announce";
import { Header } from "../components/header";
import { Health } from "../components/health";
import { HearingRows } from "../components/hearing-rows";
import { MeshMap } from "../components/mesh-map";
import { AreaRows, LinkRows } from "../components/mesh-rows";
import { StreamRows } from "../components/stream-rows";
import { useKnownRelays } from "../hooks/known-relays";
import { useMesh, usePolled, useStreams } from "../hooks/polling";
import { findings, zonesAhead } from "../mesh/health";

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
  const { gone, forget } = useKnownRelays(mesh);
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
            {mesh && <LinkRows mesh={mesh} />}
          </section>
          {mesh?.areas && mesh.areas.length > 0 && (
            <section class="panel">
              <h2>Areas</h2>
              <AreaRows areas={mesh.areas} />
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
            <StreamRows streams={streams ?? []} />
          </section>
          <section class="panel">
            <h2>Listening</h2>
            {mesh && <HearingRows mesh={mesh} />}
          </section>
        </div>
      </main>
    </>
  );
}

render(<Organizer />, document.getElementById("page")!);
