// How loud an element plays, as it was left last time.
import type { RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";
import { lasting } from "../device/storage";

export interface Volume {
  /** 0 to 1. */
  volume: number;
  muted: boolean;
  /** Who moves it wants to hear it. */
  change(volume: number): void;
  toggle(): void;
}

/** What was kept, or all of it if that is no volume. */
export function volumeOf(kept: string | undefined): number {
  const volume = Number(kept ?? 1);
  return volume >= 0 && volume <= 1 ? volume : 1;
}

export function useVolume(audio: RefObject<HTMLAudioElement | null>): Volume {
  const [volume, setVolume] = useState(() => volumeOf(lasting.get("volume")));
  const [muted, setMuted] = useState(false);
  useEffect(() => {
    audio.current!.volume = volume;
    audio.current!.muted = muted;
    lasting.set("volume", String(volume));
  }, [volume, muted]);
  return {
    volume,
    muted,
    change: (next) => {
      setVolume(next);
      setMuted(false);
    },
    toggle: () => setMuted(!muted),
  };
}
