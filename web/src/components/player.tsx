// One stream: the tap that plays it, its picture, its volume and the honest line.
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { spoken } from "../api/names";
import { type Elements, type Listening, type Playback, usePlayback } from "../hooks/playback";
import { useVolume } from "../hooks/volume";
import { brightness, figures } from "../webrtc/playout";
import type { PictureChoice } from "../webrtc/wish";
import { Segments } from "./segments";
import { Chips } from "./stream-list";

const CHOICES: Record<PictureChoice, string> = { best: "Best", save: "Save data", sound: "Sound only" };

export function Player(listening: Listening) {
  const { name, stream } = listening;
  const elements: Elements = { audio: useRef<HTMLAudioElement>(null), video: useRef<HTMLVideoElement>(null) };
  const playback = usePlayback(listening, elements);
  const { status, picture } = playback;
  return (
    <section class={`player ${status.tone}`} aria-label={`Player: ${spoken(name)}`}>
      <Screen name={name} elements={elements} playback={playback} />
      {picture && <p class="caption">{picture.line ?? "\u00a0"}</p>}
      <div class="now">
        <h1>{spoken(name)}</h1>
        {stream && <Chips stream={stream} />}
        <Controls name={name} playback={playback} />
        {status.note && (
          <p class="note" role="status">
            {status.note}
          </p>
        )}
        {picture && (
          <Segments label="Picture" name="picture" titles={CHOICES} value={picture.choice} onChange={picture.choose} />
        )}
        <Volume audio={elements.audio} />
      </div>
    </section>
  );
}

function Screen({ name, elements, playback }: { name: string; elements: Elements; playback: Playback }) {
  const { playing, playout, pictured, hasPicture, frame } = playback;
  return (
    <div class={hasPicture ? "screen tall" : "screen"}>
      <video
        ref={elements.video}
        muted
        playsInline
        autoPlay
        hidden={!pictured}
        onLoadedData={frame}
        onResize={frame}
        onEmptied={frame}
        aria-label={`Picture of ${spoken(name)}`}
      />
      <Lights level={playing && playout ? playout.level : 0} hidden={pictured} />
      {/* biome-ignore lint/a11y/useMediaCaption: it is live, nobody has written it down. */}
      <audio ref={elements.audio} />
    </div>
  );
}

/** They show the sound that is really played. */
function Lights({ level, hidden }: { level: number; hidden: boolean }) {
  const lights = useRef<HTMLDivElement>(null);
  useEffect(() => {
    lights.current?.style.setProperty("--level", brightness(level).toFixed(2));
  }, [level]);
  return (
    <div class="lights" ref={lights} aria-hidden="true" hidden={hidden}>
      {Array.from({ length: 24 }, (_, i) => (
        <i key={i} />
      ))}
    </div>
  );
}

function Controls({ name, playback }: { name: string; playback: Playback }) {
  const { status, playing, needsTap, playout, press } = playback;
  const stopped = needsTap || !playing;
  return (
    <div class="controls">
      <button type="button" class="play" aria-label={`${stopped ? "Play" : "Stop"} ${spoken(name)}`} onClick={press}>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          {stopped ? <path d="M7 4.5v15l13-7.5z" /> : <path d="M6 5h4v14H6zM14 5h4v14h-4z" />}
        </svg>
      </button>
      <div class="line">
        <p class="status" role="status" aria-live="polite">
          <span class="dot" aria-hidden="true" />
          {status.text}
        </p>
        <p class="figures" aria-hidden="true">
          {playing && status.tone === "good" && playout ? figures(playout) : " "}
        </p>
      </div>
    </div>
  );
}

function Volume({ audio }: { audio: RefObject<HTMLAudioElement | null> }) {
  const { volume, muted, change, toggle } = useVolume(audio);
  return (
    <div class="volume">
      <button type="button" class="ghost" aria-pressed={muted} aria-label={muted ? "Unmute" : "Mute"} onClick={toggle}>
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
        onInput={(event) => change(Number(event.currentTarget.value))}
      />
    </div>
  );
}
