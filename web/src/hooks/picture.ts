// The picture of a player as its listener wants it: the choice, what the page can show of it, and what is
// said of it.
import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { lasting } from "../device/storage";
import { pictureLine } from "../webrtc/picture-line";
import type { Size, Told } from "../webrtc/quality";
import type { Player } from "../webrtc/whep";
import { choiceOf, type PictureChoice, wishOf } from "../webrtc/wish";
import { useAway } from "./away";
import { useDrawn } from "./drawn";
import { useSteady } from "./steady";

/** What lasts less says nothing new. */
const STEADY_MS = 1_000;

export interface Watching {
  player: Player;
  video: RefObject<HTMLVideoElement | null>;
  told: Told;
  /** The session is there, and its stream has a picture. */
  live: boolean;
  /** The size of the frames that the browser draws. */
  frame: Size | undefined;
}

export interface Picture {
  choice: PictureChoice;
  choose(choice: PictureChoice): void;
  /** What is shown and why. */
  line: string | undefined;
  /** Nothing of it comes now: what is drawn is an old frame. */
  paused: boolean;
}

export function usePicture({ player, video, told, live, frame }: Watching): Picture {
  const [choice, setChoice] = useState(() => choiceOf(lasting.get("picture")));
  const away = useAway(video);
  const drawn = useDrawn(video);
  const { wishable, encodings, quality } = told;
  const wish = wishOf({ choice, away, encodings, drawn });
  // Not an effect that waits for a frame: a hidden page draws none.
  useLayoutEffect(() => player.wish(wish), [player, JSON.stringify(wish)]);
  useLayoutEffect(() => player.attend(!away), [player, away]);

  const sound = wishable && choice === "sound";
  const stopped = quality !== undefined && quality.video === undefined;
  const stayedStopped = useSteady(stopped, { ms: STEADY_MS, at: String(sound), held: away });
  // A picture that comes back is worth seeing at once.
  const paused = sound || (stopped && stayedStopped);
  const said = wishable ? pictureLine({ choice, wish, encodings, quality, frame }) : undefined;
  // What is said of it changes with what is to be seen.
  const line = useSteady(said, { ms: STEADY_MS, at: `${sound} ${paused}`, held: away });
  return {
    choice,
    choose: (next) => {
      // What is so anyway need not be kept.
      lasting.set("picture", next === "best" ? undefined : next);
      setChoice(next);
    },
    line: live ? line : undefined,
    paused,
  };
}
