// What happens to the window: the page goes away and comes back, the network returns.
import { type Inputs, useEffect } from "preact/hooks";

/** Hears `type` for as long as `inputs` stay the same; `listener` is the one of when they changed. */
export function useWindowEvent<Type extends keyof WindowEventMap>(
  type: Type,
  listener: (event: WindowEventMap[Type]) => void,
  inputs: Inputs,
): void {
  useEffect(() => {
    window.addEventListener(type, listener);
    return () => window.removeEventListener(type, listener);
  }, inputs);
}
