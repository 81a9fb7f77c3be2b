// Draws again twice a second while something counts down.
import { useEffect, useState } from "preact/hooks";

const TICK_MS = 500;

export function useCountdown(runs: boolean): void {
  const [, setTick] = useState(0);
  useEffect(() => {
    if (!runs) return;
    const timer = setInterval(() => setTick((tick) => tick + 1), TICK_MS);
    return () => clearInterval(timer);
  }, [runs]);
}
