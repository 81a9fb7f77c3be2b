// The outbox of a room: drawn anew when something of it changes, awake when the network returns.
import { useEffect, useReducer } from "preact/hooks";
import { tab } from "../device/storage";
import { Outbox } from "../rooms/outbox";

/** Choosing another stream shows another room; what this one was given goes on. */
const outboxes = new Map<string, Outbox>();

function outboxOf(room: string): Outbox {
  const outbox = outboxes.get(room) ?? new Outbox(room, () => tab.get("token"));
  outboxes.set(room, outbox);
  return outbox;
}

export function useOutbox(room: string): Outbox {
  const outbox = outboxOf(room);
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const online = () => outbox.hurry();
    const leave = (event: BeforeUnloadEvent) => {
      // The browser asks whether to leave.
      if ([...outboxes.values()].some((one) => one.busy)) event.preventDefault();
    };
    const forget = outbox.subscribe(() => redraw(0));
    window.addEventListener("online", online);
    window.addEventListener("beforeunload", leave);
    return () => {
      forget();
      window.removeEventListener("online", online);
      window.removeEventListener("beforeunload", leave);
    };
  }, [outbox]);
  return outbox;
}
