// What a listener has in reach: the live streams, the one that is chosen, and the room that goes with it.
import { useEffect, useState } from "preact/hooks";
import { roomOf, streamNameFault } from "../api/names";
import type { Stream } from "../api/types";
import type { Room, RoomView } from "../rooms/room";
import { useCutOff, useStreams, useZone } from "./polling";
import { useRoom } from "./room";

/** The room's socket brings changes at once; this only makes up for a socket that is not there. */
const LIST_MS = 10_000;
const MESH_MS = 15_000;
/** Where the path hardly carries the sound, an answer of a kilobyte makes it stop for a moment. */
const WEAK_MESH_MS = 60_000;

export interface Festival {
  zone: string | undefined;
  /** Undefined until a list came. */
  streams: Stream[] | undefined;
  /** The relay did not answer when it was asked last. */
  fault: boolean;
  cutOff: boolean;
  /** Whether the path carries less than the best of the sound. */
  setWeak(weak: boolean): void;
  /** The stream the address names, a tap has chosen, or the only one there is. */
  chosen: string | undefined;
  choose(name: string): void;
  /** That of the chosen stream, else the lobby. */
  roomName: string;
  room: Room | undefined;
  view: RoomView;
  /** Counts how often the relay came back. */
  returns: number;
}

/** The stream that an address names. */
export function askedStream(search: string): string | undefined {
  const name = new URLSearchParams(search).get("stream") ?? undefined;
  return name !== undefined && streamNameFault(name) === undefined ? name : undefined;
}

export function useFestival(): Festival {
  const [chosen, setChosen] = useState(() => askedStream(location.search));
  const [pushed, setPushed] = useState<Stream[]>();
  const [returns, setReturns] = useState(0);
  const [weak, setWeak] = useState(false);
  const [online, setOnline] = useState(false);
  const polled = useStreams(LIST_MS, online);
  const cutOff = useCutOff(weak ? WEAK_MESH_MS : MESH_MS);
  const zone = useZone();

  useEffect(() => setPushed(undefined), [polled.value]);
  const streams = pushed ?? polled.value;
  useEffect(() => {
    if (chosen === undefined && streams?.length === 1) setChosen(streams[0]!.name);
  }, [chosen, streams]);

  const roomName = roomOf(chosen);
  // Which room it is depends on what is live, unless the address or a tap has said so.
  const settled = chosen !== undefined || streams?.length !== undefined || polled.fault;
  const choosing = chosen === undefined && streams?.length === 1;
  const { room, view } = useRoom(settled && !choosing ? roomName : undefined, {
    onStreams: setPushed,
    onReturn: () => {
      setReturns((n) => n + 1);
      polled.again();
    },
  });
  useEffect(() => setOnline(view.online), [view.online]);
  const choose = (name: string) => {
    setChosen(name);
    const url = new URL(location.href);
    url.searchParams.set("stream", name);
    history.replaceState(null, "", url.pathname + url.search.replace(/%2F/g, "/"));
    scrollTo({ top: 0 });
  };
  return {
    zone: zone ?? view.zone,
    streams,
    fault: polled.fault,
    cutOff,
    setWeak,
    chosen,
    choose,
    roomName,
    room,
    view,
    returns,
  };
}
