import { afterEach, describe, expect, it, vi } from "vitest";
import { Publisher } from "../../src/webrtc/whip";

const SOUND = { kind: "audio" };
const CAMERA = {
  kind: "video",
  contentHint: "motion",
  getSettings: () => ({ width: 1280, height: 720, frameRate: 30 }),
};
const SEVERAL = "v=0\r\nm=video 9 X 96\r\na=rid:l recv\r\na=simulcast:recv l;m;h\r\n";
const ONE = "v=0\r\nm=video 9 X 96\r\na=recvonly\r\n";

describe("publisher", () => {
  let publisher: Publisher;
  afterEach(() => publisher.stop());

  /** The rids of each connection that it makes, with a relay that answers so and a browser that sends such offers. */
  async function published(answer: string, tracks: unknown[], several = true): Promise<string[]> {
    const connections: string[] = [];
    const newPeer = () => {
      const index = connections.push("") - 1;
      let simulcast = "";
      const peer = {
        connectionState: "new",
        onconnectionstatechange: undefined as (() => void) | undefined,
        addTransceiver: ({ kind }: MediaStreamTrack, { sendEncodings }: RTCRtpTransceiverInit) => {
          const rids = sendEncodings!.map(({ rid }) => rid ?? "-").join(";");
          connections[index] += `${kind} ${rids} `;
          if (sendEncodings!.length > 1 && several) simulcast = `a=simulcast:send ${rids}\r\n`;
        },
        createOffer: async () => ({ sdp: `v=0\r\nm=video 9 X 96\r\n${simulcast}` }),
        setLocalDescription: async () => undefined,
        setRemoteDescription: async () => {
          peer.connectionState = "connected";
          peer.onconnectionstatechange?.();
        },
        close: () => undefined,
      };
      return peer as unknown as RTCPeerConnection;
    };
    const fetch = async () => new Response(answer, { status: 201, headers: { location: "/whip/main-stage/s" } });
    const media = { getTracks: () => tracks } as unknown as MediaStream;
    const connected = vi.fn();
    publisher = new Publisher("main-stage", media, undefined, ({ phase }) => phase === "connected" && connected(), {
      newPeer,
      fetch,
    });
    publisher.start();
    await vi.waitFor(() => expect(connected).toHaveBeenCalled());
    return connections;
  }

  it("offers a camera in three encodings, and sound in one", async () => {
    expect(await published(SEVERAL, [SOUND, CAMERA])).toEqual(["audio - video l;m;h "]);
  });

  it("offers one encoding to a relay that takes no other", async () => {
    expect(await published(ONE, [CAMERA])).toEqual(["video l;m;h ", "video - "]);
  });

  it("asks once where the browser leaves all encodings but one out of its offer", async () => {
    expect(await published(ONE, [CAMERA], false)).toEqual(["video l;m;h "]);
    await publisher.stop();
    expect(await published(ONE, [SOUND])).toEqual(["audio - "]);
  });
});
