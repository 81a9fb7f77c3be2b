// `/`: the live streams of the whole festival, one of them playing, and its room.
import { render } from "preact";
import { Announcements } from "../components/announcements";
import { Chat } from "../components/chat";
import { Header } from "../components/header";
import { Player } from "../components/player";
import { NoStream, StreamList } from "../components/stream-list";
import { useFestival } from "../hooks/festival";

function Listen() {
  const { zone, streams, fault, cutOff, setWeak, chosen, choose, roomName, room, view, returns } = useFestival();
  const others = streams?.filter((stream) => stream.name !== chosen) ?? [];
  return (
    <>
      <Header zone={zone} />
      <Announcements all={view.announcements} heard={view.heard} />
      <main class="listen">
        <div class="stage">
          {chosen !== undefined && (
            <Player
              key={chosen}
              name={chosen}
              stream={streams?.find((stream) => stream.name === chosen)}
              known={streams !== undefined}
              cutOff={cutOff}
              onWeak={setWeak}
              returns={returns}
            />
          )}
          {chosen === undefined && <NoStream streams={streams} fault={fault} />}
          {others.length > 0 && (
            <section class="others">
              {chosen === undefined ? <h1 class="heading">Live now</h1> : <h2>Also live</h2>}
              <StreamList streams={others} chosen={chosen} onChoose={choose} />
            </section>
          )}
        </div>
        <Chat key={roomName} room={room} view={view} />
      </main>
    </>
  );
}

render(<Listen />, document.getElementById("page")!);
