// What comes out of a player, measured while it plays.
import { useEffect, useState } from "preact/hooks";
import type { Playout } from "../webrtc/playout";
import type { Player } from "../webrtc/whep";

const MEASURE_MS = 500;

export interface Measurement {
  playout: Playout | undefined;
  /** Milliseconds for which there has been nothing to hear. */
  waitedMs: number;
  /** It was stopped: what was measured is over. */
  forget(): void;
}

export function useMeasurement(player: Player, playing: boolean): Measurement {
  const [playout, setPlayout] = useState<Playout>();
  const [waitedMs, setWaitedMs] = useState(0);
  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(async () => {
      setPlayout(await player.measure(performance.now()));
      setWaitedMs(player.waited(performance.now()));
    }, MEASURE_MS);
    return () => clearInterval(timer);
  }, [player, playing]);
  return {
    playout,
    waitedMs,
    forget: () => {
      setPlayout(undefined);
      setWaitedMs(0);
    },
  };
}
