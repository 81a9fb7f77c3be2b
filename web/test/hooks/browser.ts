// As much of a browser as hooks look at: a window with events, connections that connect, a relay that answers.
import { vi } from "vitest";

export class FakeMedia {
  tracks: unknown[] = [];
  getTracks() {
    return [...this.tracks];
  }
  addTrack(track: unknown) {
    this.tracks.push(track);
  }
  removeTrack(track: unknown) {
    this.tracks = this.tracks.filter((one) => one !== track);
  }
}

/** An audio or video element. */
export class FakeElement {
  srcObject: unknown = null;
  volume = 1;
  muted = false;
  paused = true;
  videoWidth = 0;
  /** What the next `play` fails with. */
  refuses: Error | undefined;
  async play() {
    if (this.refuses) throw this.refuses;
    this.paused = false;
  }
  pause() {
    this.paused = true;
  }
}

export const SOUND =
  "v=0\r\nm=audio 9 X 111\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\na=candidate:1 1 udp 1 192.0.2.7 5000 typ host\r\n";
export const PICTURE = "m=video 9 X 96\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n";

export interface FakeBrowser {
  /** Requests in order: `POST /whep/main-stage`, `DELETE … leaving`. */
  asked: string[];
  /** What POST is answered with. */
  status: number;
  answer: string;
  stats: Record<string, unknown>[];
  fire(type: string, more?: object): void;
}

/** Puts it in place until `vi.unstubAllGlobals`. */
export function fakeBrowser(): FakeBrowser {
  const window = new EventTarget();
  const fake: FakeBrowser = {
    asked: [],
    status: 201,
    answer: SOUND,
    stats: [],
    fire: (type, more = {}) => window.dispatchEvent(Object.assign(new Event(type), more)),
  };
  vi.stubGlobal("window", window);
  vi.stubGlobal("MediaStream", FakeMedia);
  vi.stubGlobal(
    "RTCPeerConnection",
    class {
      connectionState = "new";
      onconnectionstatechange?: () => void;
      addTransceiver() {}
      async createOffer() {
        return { sdp: "v=0\r\nm=audio 9 X 111\r\na=mid:0\r\n" };
      }
      async setLocalDescription() {}
      async setRemoteDescription() {
        this.connectionState = "connected";
        this.onconnectionstatechange?.();
      }
      async getStats() {
        return new Map(fake.stats.map((entry, index) => [String(index), entry]));
      }
      close() {}
    },
  );
  vi.stubGlobal("fetch", async (url: string, { method, keepalive }: RequestInit) => {
    fake.asked.push(`${method} ${url}${keepalive ? " leaving" : ""}`);
    if (method !== "POST") return new Response("a=ice-ufrag:u\r\na=ice-pwd:p\r\n");
    return new Response(fake.answer, { status: fake.status, headers: { location: "/session" } });
  });
  return fake;
}
