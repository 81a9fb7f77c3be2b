// As much of a browser as hooks look at: a window with events, connections that connect, a relay that answers.
import { vi } from "vitest";
import { FakeFeed } from "../webrtc/feed";

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
export class FakeElement extends EventTarget {
  srcObject: unknown = null;
  volume = 1;
  muted = false;
  paused = true;
  videoWidth = 0;
  videoHeight = 0;
  clientWidth = 0;
  clientHeight = 0;
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
  /** The `Link` header of that answer. */
  link: string | undefined;
  stats: Record<string, unknown>[];
  /** That of the sound. */
  receiver: { track: { kind: string }; jitterBufferTarget: number | null };
  fire(type: string, more?: object): void;
  /** The tab is shown, or another one. */
  show(visible: boolean): void;
  /** What lies in the window above all others. */
  float(element: FakeElement | null): void;
  /** Elements may have another size. */
  resize(): void;
}

/** Puts it in place until `vi.unstubAllGlobals`. */
export function fakeBrowser(): FakeBrowser {
  const window = Object.assign(new EventTarget(), { devicePixelRatio: 1 });
  const document = Object.assign(new EventTarget(), {
    visibilityState: "visible",
    pictureInPictureElement: null as unknown,
  });
  const resized = new Set<() => void>();
  const fake: FakeBrowser = {
    asked: [],
    status: 201,
    answer: SOUND,
    link: undefined,
    stats: [],
    receiver: { track: { kind: "audio" }, jitterBufferTarget: null },
    fire: (type, more = {}) => window.dispatchEvent(Object.assign(new Event(type), more)),
    show: (visible) => {
      document.visibilityState = visible ? "visible" : "hidden";
      document.dispatchEvent(new Event("visibilitychange"));
    },
    float: (element) => {
      const former = document.pictureInPictureElement as FakeElement | null;
      document.pictureInPictureElement = element;
      former?.dispatchEvent(new Event("leavepictureinpicture"));
      element?.dispatchEvent(new Event("enterpictureinpicture"));
    },
    resize: () => {
      for (const heard of resized) heard();
    },
  };
  FakeFeed.all = [];
  vi.stubGlobal("window", window);
  vi.stubGlobal("document", document);
  // Node.js 20 has none, and an effect that fails takes those after it along.
  vi.stubGlobal("navigator", {});
  vi.stubGlobal("EventSource", FakeFeed);
  vi.stubGlobal(
    "ResizeObserver",
    class {
      constructor(private readonly heard: () => void) {}
      observe() {
        resized.add(this.heard);
      }
      disconnect() {
        resized.delete(this.heard);
      }
    },
  );
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
      getReceivers() {
        return [fake.receiver];
      }
      close() {}
    },
  );
  vi.stubGlobal("fetch", async (url: string, { method, keepalive, body }: RequestInit) => {
    const wish = url.endsWith("/layer");
    fake.asked.push(`${method} ${url}${wish ? ` ${body}` : ""}${keepalive ? " leaving" : ""}`);
    if (wish) return new Response("");
    if (method !== "POST") return new Response("a=ice-ufrag:u\r\na=ice-pwd:p\r\n");
    const headers = { location: "/session", ...(fake.link ? { link: fake.link } : {}) };
    return new Response(fake.answer, { status: fake.status, headers });
  });
  return fake;
}
