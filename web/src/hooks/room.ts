// The room of a name, and what it shows, for as long as the name stays.
import { useEffect, useState } from "preact/hooks";
import { Room, type RoomEvents, type RoomView } from "../rooms/room";

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

/** No room while `name` is undefined. The events are those given when it was opened. */
export function useRoom(
  name: string | undefined,
  events: Omit<RoomEvents, "onView">,
): { room: Room | undefined; view: RoomView } {
  const [room, setRoom] = useState<Room>();
  const [view, setView] = useState(NOBODY);
  useEffect(() => {
    if (name === undefined) return;
    const room = new Room(name, { ...events, onView: setView });
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
  }, [name]);
  return { room, view };
}
