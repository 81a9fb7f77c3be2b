// Microphone, camera and screen, with music settings: nothing in the browser may touch the sound.

export type Source = "mic" | "camera" | "screen";
export const SOURCES: Source[] = ["mic", "camera", "screen"];

export interface Choice {
  source: Source;
  /** Device ids; empty for the browser's default. */
  audio: string;
  video: string;
}

const music = (deviceId: string): MediaTrackConstraints => ({
  ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
  channelCount: { ideal: 2 },
  sampleRate: { ideal: 48_000 },
});

const picture = (deviceId: string): MediaTrackConstraints => ({
  ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  width: { ideal: 1280 },
  height: { ideal: 720 },
  frameRate: { ideal: 30 },
});

/** Why this page cannot capture at all, and what to do; undefined when it can. */
export function captureFault(): string | undefined {
  if (!window.isSecureContext) {
    return `Browsers give microphones and cameras only to secure pages. Open this page as https://${location.hostname}/publish, or on the relay's own machine as http://localhost:${location.port || "80"}/publish. OBS, ffmpeg and GStreamer can publish without it.`;
  }
  if (!navigator.mediaDevices) return "This browser has no access to microphones and cameras.";
  return undefined;
}

export async function capture(choice: Choice): Promise<MediaStream> {
  const devices = navigator.mediaDevices;
  let media: MediaStream;
  if (choice.source === "screen") {
    media = await devices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: music("") });
    if (media.getAudioTracks().length === 0) {
      // Only a few browsers share the screen's own sound: take the chosen input.
      const sound = await devices.getUserMedia({ audio: music(choice.audio) });
      for (const track of sound.getAudioTracks()) media.addTrack(track);
    }
  } else {
    media = await devices.getUserMedia({
      audio: music(choice.audio),
      ...(choice.source === "camera" ? { video: picture(choice.video) } : {}),
    });
  }
  for (const track of media.getTracks()) {
    if (track.kind === "audio") track.contentHint = "music";
    else track.contentHint = choice.source === "screen" ? "detail" : "motion";
  }
  return media;
}

export async function devices(): Promise<{ audio: MediaDeviceInfo[]; video: MediaDeviceInfo[] }> {
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  const named = all.filter((device) => device.deviceId !== "");
  return {
    audio: named.filter((device) => device.kind === "audioinput"),
    video: named.filter((device) => device.kind === "videoinput"),
  };
}

/** What went wrong with a capture, as something to act on. */
export function captureProblem(error: unknown): string {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
      return "The browser was not allowed to use it. Allow the microphone or camera beside the address, then try again.";
    case "NotFoundError":
      return "There is no such input. Is it plugged in?";
    case "NotReadableError":
    case "AbortError":
      return "Another program holds this input. Close it there, then try again.";
    case "OverconstrainedError":
      return "That input is gone. Choose another one.";
    default:
      return `The input could not be opened: ${error instanceof Error ? error.message : String(error)}`;
  }
}
