// One stream: the tap that plays it, its picture, its volume and the honest line.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Stream, spoken } from "../api/api";
import { setLockScreenState, showOnLockScreen } from "../device/lock-screen";
import { lasting } from "../device/storage";
import type { Playout } from "../webrtc/playout";
import type { State } from "../webrtc/session";
import { heldBack, type Known, statusOf } from "../webrtc/status";
import { Player as Whep } from "../webrtc/whep";
import { Chips } from "./stream-list";

const MEASURE_MS = 500;
/** So long after the relay came back something should have arrived. */
const RETURN_MS = 1_200;

export interface PlayerProps {
  name: string;
  /** What the list says of it; undefined when it is not in the list. */
  stream: Stream | undefined;
  /** The list has been read. */
  known: boolean;
  cutOff: boolean;
  /** Counts how often the relay came back. */
  returns: number;
}

export function Player({ name, stream, known, cutOff, returns }: PlayerProps) {
  const audio = useRef<HTMLAudioElement>(null);
  const video = useRef<HTMLVideoElement>(null);
  const lights = useRef<HTMLDivElement>(null);
  const [state, setState] = useState<State>({ phase: "idle", problem: undefined });
  const [picture, setPicture] = useState(false);
  const [drawn, setDrawn] = useState(false);
  const [needsTap, setNeedsTap] = useState(false);
  const [playout, setPlayout] = useState<Playout>();
  const [waitedMs, setWaitedMs] = useState(0);
  const [volume, setVolume] = useState(() => {
    const kept = Number(lasting.get("volume") ?? 1);
    return kept >= 0 && kept <= 1 ? kept : 1;
  });
  const [muted, setMuted] = useState(false);
  const player = useMemo(
    // Tracks that a script adds fire no event on their stream, so the player says when to start.
    () => new Whep(name, { onState: setState, onVideo: setPicture, onSound: () => audio.current?.paused && sound() }),
    [name],
  );
  const playing = state.phase !== "idle" && state.phase !== "refused";
  // Advertised, accepted, and a frame of it has come: else the lights are nicer than a black box.
  const advertised = stream === undefined || stream.tracks.some((track) => track.kind === "video");
  const frame = () => setDrawn((video.current?.videoWidth ?? 0) > 0);

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
    setPlayout(undefined);
    setWaitedMs(0);
    setNeedsTap(false);
    audio.current?.pause();
    void player.stop();
  };

  useEffect(() => {
    audio.current!.srcObject = player.sound;
    video.current!.srcObject = player.picture;
    let leftPlaying = false;
    const leave = () => {
      leftPlaying = player.running;
      void player.stop(true);
    };
    const back = (event: PageTransitionEvent) => event.persisted && leftPlaying && play();
    window.addEventListener("pagehide", leave);
    window.addEventListener("pageshow", back);
    return () => {
      window.removeEventListener("pagehide", leave);
      window.removeEventListener("pageshow", back);
      void player.stop();
      setLockScreenState("none");
    };
  }, [player]);

  useEffect(() => {
    if (!playing) return setLockScreenState(state.phase === "idle" ? "paused" : "none");
    showOnLockScreen(spoken(name), stream?.origin_zone ?? "the festival", { play, pause });
    setLockScreenState("playing");
  }, [player, playing, stream?.origin_zone]);

  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(async () => {
      setPlayout(await player.measure(performance.now()));
      setWaitedMs(player.waited(performance.now()));
    }, MEASURE_MS);
    return () => clearInterval(timer);
  }, [player, playing]);

  useEffect(() => {
    // The relay was away: if nothing arrives, do not wait until ICE notices.
    if (returns === 0) return;
    const timer = setTimeout(async () => {
      const { quietMs } = (await player.measure(performance.now())) ?? {};
      if (quietMs !== undefined && quietMs > RETURN_MS / 2) player.check();
    }, RETURN_MS);
    return () => clearTimeout(timer);
  }, [returns]);
  useEffect(() => {
    const check = () => player.check();
    window.addEventListener("online", check);
    return () => window.removeEventListener("online", check);
  }, [player]);
  useEffect(() => {
    if (stream) player.expect(stream.tracks);
  }, [stream, state.phase]);

  useEffect(() => {
    audio.current!.volume = volume;
    audio.current!.muted = muted;
    lasting.set("volume", String(volume));
  }, [volume, muted]);

  useEffect(() => {
    // The lights show the sound that is really played: -40 dB and less is dark.
    const level = playing && playout ? playout.level : 0;
    const shown = level > 0.01 ? Math.min(1 + Math.log10(level) / 2 + 0.15, 1) : 0;
    lights.current?.style.setProperty("--level", shown.toFixed(2));
  }, [playout, playing]);

  const facts: Known = {
    phase: state.phase,
    problem: state.problem?.message,
    listed: known ? stream !== undefined : undefined,
    quietMs: playout?.quietMs,
    lateMs: playout?.lateMs,
    cutOff,
    needsTap,
    waitedMs: playing ? waitedMs : 0,
    ports: player.ports,
    lacks: player.lacks(stream?.tracks ?? []),
    tracks: stream?.tracks.length ?? 0,
  };
  const status = statusOf(facts);
  // Chromium draws a black frame of a track of which nothing comes.
  const seen = picture && advertised && drawn && playing && !heldBack(facts);
  const moving = status.tone === "good";
  return (
    <section class={`player ${status.tone}`} aria-label={`Player: ${spoken(name)}`}>
      <div class="screen">
        <video
          ref={video}
          muted
          playsInline
          autoPlay
          hidden={!seen}
          onLoadedData={frame}
          onResize={frame}
          onEmptied={frame}
          aria-label={`Picture of ${spoken(name)}`}
        />
        <div class="lights" ref={lights} aria-hidden="true" hidden={seen}>
          {Array.from({ length: 24 }, (_, i) => (
            <i key={i} />
          ))}
        </div>
        {/* biome-ignore lint/a11y/useMediaCaption: it is live, nobody has written it down. */}
        <audio ref={audio} />
      </div>
      <div class="now">
        <h1>{spoken(name)}</h1>
        {stream && <Chips stream={stream} />}
        <div class="controls">
          <button
            type="button"
            class="play"
            aria-label={needsTap || !playing ? `Play ${spoken(name)}` : `Stop ${spoken(name)}`}
            onClick={() => (needsTap ? sound() : playing ? pause() : play())}
          >
            <svg viewBox="0 0 24 24" aria-hidden="true">
              {needsTap || !playing ? <path d="M7 4.5v15l13-7.5z" /> : <path d="M6 5h4v14H6zM14 5h4v14h-4z" />}
            </svg>
          </button>
          <div class="line">
            <p class="status" role="status" aria-live="polite">
              <span class="dot" aria-hidden="true" />
              {status.text}
            </p>
            <p class="figures" aria-hidden="true">
              {playing && moving && playout ? figures(playout) : " "}
            </p>
          </div>
        </div>
        {status.note && (
          <p class="note" role="status">
            {status.note}
          </p>
        )}
        <div class="volume">
          <button
            type="button"
            class="ghost"
            aria-pressed={muted}
            aria-label={muted ? "Unmute" : "Mute"}
            onClick={() => setMuted(!muted)}
          >
            <svg viewBox="0 0 24 24" aria-hidden="true">
              <path d="M4 9v6h4l5 4.5v-15L8 9z" />
              {muted ? (
                <path class="stroke" d="m16.5 9.5 5 5m0-5-5 5" />
              ) : (
                <path class="stroke" d="M16.5 8.5a5 5 0 0 1 0 7M19 6a8.5 8.5 0 0 1 0 12" />
              )}
            </svg>
          </button>
          <input
            type="range"
            min="0"
            max="1"
            step="0.01"
            value={volume}
            aria-label="Volume"
            onInput={(event) => {
              setVolume(Number(event.currentTarget.value));
              setMuted(false);
            }}
          />
        </div>
      </div>
    </section>
  );
}

function figures(playout: Playout): string {
  const parts = [`${playout.kbps} kbit/s`];
  if (playout.lateMs !== undefined) parts.push(`${playout.lateMs} ms to your ear`);
  if (playout.loss >= 0.005) parts.push(`${(playout.loss * 100).toFixed(1)} % lost`);
  return parts.join(" · ");
}
