// The level meter drawn: two bars on a dBFS scale, held peaks, the clip light.
import { useEffect, useRef, useState } from "preact/hooks";
import { FLOOR_DB, Meter } from "../webrtc/meter";

const SCALE = [-48, -36, -24, -12, -6, 0];
/** Where on the scale, 0 to 1. */
const along = (db: number) => Math.min(Math.max((db - FLOOR_DB) / -FLOOR_DB, 0), 1);

export function LevelMeter({ media }: { media: MediaStream | undefined }) {
  const bars = [useRef<HTMLElement>(null), useRef<HTMLElement>(null)];
  const holds = [useRef<HTMLElement>(null), useRef<HTMLElement>(null)];
  const figure = useRef<HTMLElement>(null);
  const [clipping, setClipping] = useState(false);
  const [mono, setMono] = useState(false);

  useEffect(() => {
    if (!media || media.getAudioTracks().length === 0) return;
    let closed = false;
    let frame = 0;
    let meter: Meter | undefined;
    const draw = (now: number) => {
      frame = requestAnimationFrame(draw);
      const levels = meter!.read(now);
      levels.db.forEach((db, side) => {
        bars[side]!.current!.style.clipPath = `inset(0 ${(100 - along(db) * 100).toFixed(1)}% 0 0)`;
        holds[side]!.current!.style.left = `${(along(levels.hold[side]!) * 100).toFixed(1)}%`;
      });
      const loudest = Math.max(...levels.hold);
      figure.current!.textContent = loudest <= FLOOR_DB ? "silence" : `${loudest.toFixed(1)} dBFS`;
      setClipping(levels.clipping);
      setMono(levels.channels === 1);
    };
    Meter.open(media).then(
      (opened) => {
        meter = opened;
        if (closed) opened.close();
        else frame = requestAnimationFrame(draw);
      },
      () => {
        if (figure.current) figure.current.textContent = "no meter in this browser";
      },
    );
    return () => {
      closed = true;
      cancelAnimationFrame(frame);
      meter?.close();
    };
  }, [media]);

  return (
    // biome-ignore lint/a11y/useSemanticElements: nothing here is filled in, as in a fieldset.
    <div class="meter" role="group" aria-label="Level">
      <div class="bars" aria-hidden="true">
        {["L", "R"].map((side, index) => (
          <div class="bar-row" key={side}>
            <span>{side}</span>
            <div class="track">
              <i class="fill" ref={bars[index]} />
              <i class="hold" ref={holds[index]} />
            </div>
          </div>
        ))}
        <div class="scale">
          {SCALE.map((db) => (
            <span key={db} class={`at${-db}`}>
              {db}
            </span>
          ))}
        </div>
      </div>
      <div class="readout">
        <b ref={figure}>silence</b>
        {mono && <span class="quiet">mono source</span>}
        <span class={`clip ${clipping ? "on" : ""}`} role="status">
          {clipping ? "CLIP: turn it down" : "clip"}
        </span>
      </div>
    </div>
  );
}
