// `/`: the live streams of the whole festival, one of them playing, and its room.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { roomOf, streamNameFault } from "../api/names";
import type { Stream } from "../api/types";
import { Announcements } from "../components/announcements";
import { Chat } from "../components/chat";
import { Header } from "../components/header";
import { Player } from "../components/player";
import { StreamList } from "../components/stream-list";
import { useCutOff, useStreams, useZone } from "../hooks/polling";
import { Room, type RoomView } from "../rooms/room";

/** The room's socket brings changes at once; this only makes up for a socket that is not there. */
const LIST_MS = 10_000;
const MESH_MS = 15_000;
const NOBODY: RoomView = {
  messages: [],
  pending: [],
  online: false,
  present: 0,
  zone: undefined,
  unsaved: new Set(),
  announcements: [],
  heard: new Set(),
  fileNews: 0,
};

function asked(): string | undefined {
  const name = new URLSearchParams(location.search).get("stream") ?? undefined;
  return name !== undefined && streamNameFault(name) === undefined ? name : undefined;
}

function Listen() {
  const [chosen, setChosen] = useState(asked);
  const [pushed, setPushed] = useState<Stream[]>();
  const [view, setView] = useState(NOBODY);
  const [room, setRoom] = useState<Room>();
  const [returns, setReturns] = useState(0);
  const polled = useStreams(LIST_MS);
  const cutOff = useCutOff(MESH_MS);
  const zone = useZone() ?? view.zone;

  useEffect(() => setPushed(undefined), [polled.value]);
  const streams = pushed ?? polled.value;
  useEffect(() => {
    if (chosen === undefined && streams?.length === 1) setChosen(streams[0]!.name);
  }, [chosen, streams]);

  const roomName = roomOf(chosen);
  // Which room it is depends on what is live, unless the address or a tap has said so.
  const settled = chosen !== undefined || streams?.length !== undefined || polled.fault;
  const choosing = chosen === undefined && streams?.length === 1;
  useEffect(() => {
    if (!settled || choosing) return;
    const room = new Room(roomName, {
      onView: setView,
      onStreams: setPushed,
      onReturn: () => {
        setReturns((n) => n + 1);
        polled.again();
      },
    });
    setRoom(room);
    const hurry = () => document.visibilityState === "visible" && room.hurry();
    window.addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
    return () => {
      window.removeEventListener("online", hurry);
      document.removeEventListener("visibilitychange", hurry);
      room.close();
      setView(NOBODY);
    };
  }, [roomName, settled, choosing]);

  const choose = (name: string) => {
    setChosen(name);
    const url = new URL(location.href);
    url.searchParams.set("stream", name);
    history.replaceState(null, "", url.pathname + url.search.replace(/%2F/g, "/"));
    scrollTo({ top: 0 });
  };
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
              returns={returns}
            />
          )}
          {chosen === undefined && streams === undefined && (
            <p class="empty" role="status">
              {polled.fault
                ? "The relay does not answer. Are you still on the festival's Wi-Fi?"
                : "Looking for live stages"}
            </p>
          )}
          {chosen === undefined && streams?.length === 0 && (
            <div class="empty" role="status">
              <h1>Nobody is live yet</h1>
              <p>This page shows every stage of the festival the moment it starts.</p>
            </div>
          )}
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
