// The input of a publisher: which one, how it looks and how loud it is.
import { useEffect, useRef } from "preact/hooks";
import type { Publication } from "../hooks/publication";
import type { Source } from "../webrtc/capture";
import { LevelMeter } from "./level-meter";
import { Segments } from "./segments";

const TITLES: Record<Source, string> = { mic: "Sound", camera: "Camera", screen: "Screen" };

export function Desk({ publication }: { publication: Publication }) {
  const { plan, change, capture, check, blocked, publisher } = publication;
  const { media, fault, inputs } = capture;
  const running = publisher !== undefined;
  return (
    <section class="desk" aria-label="Input">
      <Segments
        label="What to publish"
        name="source"
        titles={TITLES}
        value={plan.source}
        disabled={running}
        onChange={(source) => change({ source })}
      />
      <Preview media={media} />
      <LevelMeter media={media} />
      {fault && (
        <p class="warning" role="alert">
          {fault}
        </p>
      )}
      <Picker
        title="Input"
        open={media?.getAudioTracks()[0]?.label}
        devices={inputs.audio}
        value={plan.audio}
        disabled={running}
        onChange={(audio) => change({ audio })}
      />
      {plan.source === "camera" && (
        <Picker
          title="Camera"
          open={media?.getVideoTracks()[0]?.label}
          devices={inputs.video}
          value={plan.video}
          disabled={running}
          onChange={(video) => change({ video })}
        />
      )}
      {!running && (
        <button type="button" class="wide ghost" disabled={blocked !== undefined} onClick={check}>
          {media ? "Close the input" : "Check the level"}
        </button>
      )}
    </section>
  );
}

function Preview({ media }: { media: MediaStream | undefined }) {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (video.current) video.current.srcObject = media ?? null;
  }, [media]);
  return (
    <video
      ref={video}
      class="preview"
      muted
      playsInline
      autoPlay
      hidden={!media || media.getVideoTracks().length === 0}
    />
  );
}

interface PickerProps {
  title: string;
  devices: MediaDeviceInfo[];
  value: string;
  /** The label of what is open now. */
  open: string | undefined;
  disabled: boolean;
  onChange(id: string): void;
}

function Picker(props: PickerProps) {
  const known = props.devices.some((device) => device.deviceId === props.value);
  return (
    <label class="field">
      <span>{props.title}</span>
      <select
        value={known ? props.value : ""}
        disabled={props.disabled}
        onChange={(event) => props.onChange(event.currentTarget.value)}
      >
        <option value="">The browser's choice{props.open && !known ? `: ${props.open}` : ""}</option>
        {props.devices.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || `${props.title} ${index + 1}`}
          </option>
        ))}
      </select>
    </label>
  );
}
