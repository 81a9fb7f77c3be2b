// What every page wants to know of the relay: its zone, the live streams, whether it is cut off.
import { useEffect, useRef, useState } from "preact/hooks";
import { getMesh, getStreams, getVersion } from "../api/requests";
import type { Mesh, Stream } from "../api/types";
import { cutOff } from "../mesh/cuts";

/**
 * Asks `read` now and every `everyMs`, a little spread; keeps the last answer when one fails. While it `rests` it does not
 * ask again: what is read comes in another way. Another pace counts from the next time on.
 */
export function usePolled<T>(
  read: () => Promise<T>,
  everyMs: number,
  rests = false,
): { value: T | undefined; fault: boolean; again(): void } {
  const [value, setValue] = useState<T>();
  const [fault, setFault] = useState(false);
  const [round, setRound] = useState(0);
  // What is asked, and when, may depend on what was rendered last.
  const latest = useRef({ read, everyMs, rests });
  latest.current = { read, everyMs, rests };
  useEffect(() => {
    let stopped = false;
    let timer: ReturnType<typeof setTimeout>;
    const again = () => {
      timer = setTimeout(ask, latest.current.everyMs * (0.85 + Math.random() * 0.3));
    };
    const ask = async (first = false) => {
      if (latest.current.rests && !first) return again();
      try {
        const answer = await latest.current.read();
        if (stopped) return;
        setValue(answer);
        setFault(false);
      } catch {
        if (stopped) return;
        setFault(true);
      }
      again();
    };
    void ask(true);
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, [round]);
  return { value, fault, again: () => setRound((n) => n + 1) };
}

export const useStreams = (everyMs: number, rests = false) => usePolled<Stream[]>(getStreams, everyMs, rests);
export const useMesh = (everyMs: number) => usePolled<Mesh>(getMesh, everyMs);

export function useZone(): string | undefined {
  const [zone, setZone] = useState<string>();
  useEffect(() => {
    getVersion().then(
      (version) => setZone(version.zone),
      () => undefined,
    );
  }, []);
  return zone;
}

/** Whether this zone is alone although it was not meant to be. */
export function useCutOff(everyMs: number): boolean {
  const { value } = useMesh(everyMs);
  return value !== undefined && cutOff(value);
}
