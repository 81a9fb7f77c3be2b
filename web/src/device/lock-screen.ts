// The phone's lock screen and headset buttons (Media Session API).

export interface Buttons {
  play(): void;
  pause(): void;
}

export function showOnLockScreen(title: string, zone: string, buttons: Buttons): void {
  const session = navigator.mediaSession as MediaSession | undefined;
  if (!session || typeof MediaMetadata === "undefined") return;
  session.metadata = new MediaMetadata({ title, artist: `from ${zone}`, album: "PeddleNet" });
  for (const [action, press] of [
    ["play", buttons.play],
    ["pause", buttons.pause],
    ["stop", buttons.pause],
  ] as const) {
    try {
      session.setActionHandler(action, press);
    } catch {
      // This browser does not know the button.
    }
  }
}

export function setLockScreenState(state: MediaSessionPlaybackState): void {
  const session = navigator.mediaSession as MediaSession | undefined;
  if (session) session.playbackState = state;
}
