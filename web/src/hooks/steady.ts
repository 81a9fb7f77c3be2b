// A value that does not flicker.
import { useEffect, useRef, useState } from "preact/hooks";

/**
 * The last value that stayed for `ms`. `at`: when this changes the value counts at once. `held`: while true it
 * stays what it was, whatever comes.
 */
export function useSteady<Value extends string | boolean | undefined>(
  value: Value,
  { ms, at, held }: { ms: number; at: string; held: boolean },
): Value {
  const [steady, setSteady] = useState(value);
  const since = useRef(at);
  const atOnce = since.current !== at;
  useEffect(() => {
    since.current = at;
    if (atOnce) return setSteady(value);
    if (held || value === steady) return;
    const timer = setTimeout(() => setSteady(value), ms);
    return () => clearTimeout(timer);
  }, [value, steady, at, held]);
  return atOnce ? value : steady;
}
