// A publisher while it is on air: since when, what leaves, and what the relay says of its stream.
import { useEffect, useRef, useState } from "preact/hooks";
import { getStreams } from "../api/requests";
import type { Stream } from "../api/types";
import type { State } from "../webrtc/session";
import { airStatus, heldBack, type Status } from "../webrtc/status";
import type { Publisher, Uplink } from "../webrtc/whip";
import { usePolled } from "./polling";

const ASK_MS = 2_000;
const MEASURE_MS = 1_000;

export interface OnAir {
  status: Status;
  /** As the relay lists it. */
  stream: Stream | undefined;
  /** Milliseconds since it was on air first. */
  elapsedMs: number | undefined;
  /** Undefined while nothing leaves. */
  uplink: Uplink | undefined;
}

export function useOnAir(publisher: Publisher, state: State): OnAir {
  const [since, setSince] = useState<number>();
  const [now, setNow] = useState(() => performance.now());
  const [uplink, setUplink] = useState<Uplink>();
  const stream = useListed(publisher, state);
  const live = state.phase === "connected";
  useEffect(() => {
    const timer = setInterval(async () => {
      setNow(performance.now());
      setUplink(await publisher.measure(performance.now()));
    }, MEASURE_MS);
    return () => clearInterval(timer);
  }, [publisher]);
  useEffect(() => {
    if (live && since === undefined) setSince(performance.now());
  }, [state.phase]);

  // Since it was asked for, or since it was on air last.
  const waiting = useRef(now);
  if (live) waiting.current = now;
  const stuck = heldBack({
    ...state,
    problem: state.problem?.message,
    ports: publisher.ports,
    waitedMs: now - waiting.current,
    quietMs: undefined,
    listed: undefined,
  });
  return {
    status: airStatus(state, stuck, publisher.ports),
    stream,
    elapsedMs: since === undefined ? undefined : now - since,
    uplink: live ? uplink : undefined,
  };
}

/** The stream in the relay's list. Connected as far as ICE knows, but missing there twice in a row: the relay was restarted. */
function useListed(publisher: Publisher, state: State): Stream | undefined {
  const streams = usePolled<Stream[]>(getStreams, ASK_MS).value;
  const stream = streams?.find((one) => one.name === publisher.stream);
  const missed = useRef(0);
  useEffect(() => {
    missed.current = streams && !stream && state.phase === "connected" ? missed.current + 1 : 0;
    if (missed.current === 2) publisher.check();
  }, [streams]);
  return stream;
}
