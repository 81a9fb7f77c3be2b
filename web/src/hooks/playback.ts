// One stream as a person plays it: the tap, the session behind it, the lock screen, and what is known of it.
import type { RefObject } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { spoken } from "../api/names";
import type { Stream } from "../api/types";
import { setLockScreenState, showOnLockScreen } from "../device/lock-screen";
import type { Playout } from "../webrtc/playout";
import { type Size, UNTOLD } from "../webrtc/quality";
import type { State } from "../webrtc/session";
import type { SoundPath } from "../webrtc/sound-path";
import { heldBack, type Known, type Status, statusOf } from "../webrtc/status";
import { Player } from "../webrtc/whep";
import { useMeasurement } from "./measurement";
import { type Picture, usePicture } from "./picture";
import { useWindowEvent } from "./window-event";

/** So long after the relay came back something should have arrived. */
const RETURN_MS = 1_200;

export interface Listening {
  name: string;
  /** What the list says of it; undefined when it is not in the list. */
  stream: Stream | undefined;
  /** The list has been read. */
  known: boolean;
  cutOff: boolean;
  /** Counts how often the relay came back. */
  returns: number;
  /** The way here carries less than the best of sound or picture, or it does again. */
  onWeak(weak: boolean): void;
}

/** Where it plays; they are there when effects run. */
export interface Elements {
  audio: RefObject<HTMLAudioElement | null>;
  video: RefObject<HTMLVideoElement | null>;
}

export interface Playback {
  status: Status;
  playing: boolean;
  /** The browser would not start the sound by itself. */
  needsTap: boolean;
  playout: Playout | undefined;
  /** There is a picture worth seeing. */
  pictured: boolean;
  /** There is a picture that can be played here, whether or not it is to be seen now. */
  hasPicture: boolean;
  /** What can be chosen and is said of it; undefined if the relay takes no wishes. */
  picture: Picture | undefined;
  /** The button: plays, stops, or gives the tap that the browser wants. */
  press(): void;
  /** The size of the picture may be another. */
  frame(): void;
}

export function usePlayback(
  { name, stream, known, cutOff, returns, onWeak }: Listening,
  { audio, video }: Elements,
): Playback {
  const [state, setState] = useState<State>({ phase: "idle", problem: undefined });
  const [accepted, setAccepted] = useState(false);
  const [told, setTold] = useState(UNTOLD);
  const [frame, setFrame] = useState<Size>();
  const [needsTap, setNeedsTap] = useState(false);
  const player = useMemo(
    // Tracks that a script adds fire no event on their stream, so the player says when to start.
    () =>
      new Player(name, {
        onState: setState,
        onVideo: setAccepted,
        onSound: () => audio.current?.paused && sound(),
        onTold: setTold,
      }),
    [name],
  );
  const playing = state.phase !== "idle" && state.phase !== "refused";
  const { playout, waitedMs, forget } = useMeasurement(player, playing);

  const sound = () => {
    // Inside the tap, or phones keep the element silent.
    audio.current?.play().then(
      () => setNeedsTap(false),
      (error) => error?.name === "NotAllowedError" && setNeedsTap(true),
    );
    video.current?.play().catch(() => undefined);
  };
  const play = () => {
    player.start();
    sound();
  };
  const pause = () => {
    forget();
    setNeedsTap(false);
    audio.current?.pause();
    void player.stop();
  };

  useEffect(() => {
    audio.current!.srcObject = player.sound;
    video.current!.srcObject = player.picture;
    return () => {
      void player.stop();
      setLockScreenState("none");
    };
  }, [player]);
  useDepartures(player, play);
  useEffect(() => {
    if (!playing) return setLockScreenState(state.phase === "idle" ? "paused" : "none");
    showOnLockScreen(spoken(name), stream?.origin_zone ?? "the festival", { play, pause });
    setLockScreenState("playing");
  }, [player, playing, stream?.origin_zone]);
  useReturns(player, returns);
  useEffect(() => {
    if (stream) player.expect(stream.tracks);
  }, [stream, state.phase]);

  const weak = playing && (isWeak(player.soundPath) || told.quality?.reason === "link");
  useEffect(() => onWeak(weak), [weak]);

  const facts: Known = {
    phase: state.phase,
    problem: state.problem?.message,
    listed: known ? stream !== undefined : undefined,
    quietMs: playout?.quietMs,
    lateMs: playout?.lateMs,
    soundPath: playing ? player.soundPath : undefined,
    cutOff,
    needsTap,
    waitedMs: playing ? waitedMs : 0,
    ports: player.ports,
    lacks: player.lacks(stream?.tracks ?? []),
    tracks: stream?.tracks.length ?? 0,
  };
  // Advertised, accepted, and a frame of it has come: else the lights are nicer than a black box.
  const advertised = stream?.tracks.some((track) => track.kind === "video");
  const hasPicture = playing && accepted && advertised !== false;
  const live = state.phase === "connected" && advertised === true && !heldBack(facts);
  const picture = usePicture({ player, video, told, live, frame });
  return {
    status: statusOf(facts),
    playing,
    needsTap,
    playout,
    // Chromium draws a black frame of a track of which nothing comes.
    pictured: hasPicture && frame !== undefined && !picture.paused && !heldBack(facts),
    hasPicture,
    picture: advertised && told.wishable ? picture : undefined,
    press: () => (needsTap ? sound() : playing ? pause() : play()),
    frame: () => setFrame(frameOf(video.current)),
  };
}

/** Less of the sound comes because of the network here. */
function isWeak(path: SoundPath | undefined): boolean {
  return path?.rung !== undefined && (path.reason === undefined || path.reason === "link");
}

function frameOf(video: HTMLVideoElement | null): Size | undefined {
  const { videoWidth: width = 0, videoHeight: height = 0 } = video ?? {};
  return width > 0 ? { width, height } : undefined;
}

/** The page goes, into the browser's cache perhaps, and plays again when it comes back from there. */
function useDepartures(player: Player, play: () => void): void {
  const leftPlaying = useRef(false);
  const leave = () => {
    leftPlaying.current = player.running;
    void player.stop(true);
  };
  useWindowEvent("pagehide", leave, [player]);
  useWindowEvent("pageshow", (event) => event.persisted && leftPlaying.current && play(), [player]);
}

/** The relay was away, or the network: if nothing arrives, do not wait until ICE notices. */
function useReturns(player: Player, returns: number): void {
  useEffect(() => {
    if (returns === 0) return;
    const timer = setTimeout(async () => {
      const { quietMs } = (await player.measure(performance.now())) ?? {};
      if (quietMs !== undefined && quietMs > RETURN_MS / 2) player.check();
    }, RETURN_MS);
    return () => clearTimeout(timer);
  }, [returns]);
  useWindowEvent("online", () => player.check(), [player]);
}
