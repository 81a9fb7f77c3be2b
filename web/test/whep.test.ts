import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Player } from "../src/whep";

class FakeStream {
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

const SOUND_ONLY = "v=0\r\nm=audio 9 X 111\r\na=sendonly\r\nm=video 9 X 96\r\na=inactive\r\n";

describe("player", () => {
  let posts: number;
  let peers: { connectionState: string; onconnectionstatechange?: () => void; ontrack?: (event: unknown) => void }[];
  let player: Player;
  const onSound = vi.fn();

  beforeEach(async () => {
    vi.stubGlobal("MediaStream", FakeStream);
    onSound.mockClear();
    posts = 0;
    peers = [];
    player = new Player("main-stage", { onState: () => undefined, onVideo: () => undefined, onSound }, {
      newPeer: () => {
        const peer = {
          connectionState: "new",
          addTransceiver: () => undefined,
          createOffer: async () => ({ sdp: "v=0\r\n" }),
          setLocalDescription: async () => undefined,
          setRemoteDescription: async () => undefined,
          close: () => undefined,
        };
        peers.push(peer);
        return peer as unknown as RTCPeerConnection;
      },
      fetch: async (_url, init) => {
        if (init.method === "POST") posts += 1;
        return new Response(SOUND_ONLY, { status: init.method === "POST" ? 201 : 200, headers: { location: "/whep/main-stage/s" } });
      },
    });
    player.start();
    await connect();
  });
  afterEach(() => {
    void player.stop();
    vi.unstubAllGlobals();
  });

  async function connect() {
    await new Promise((done) => setTimeout(done, 5));
    const peer = peers.at(-1)!;
    peer.connectionState = "connected";
    peer.onconnectionstatechange?.();
  }

  it("asks again when the stream gets a picture, but only once for each", async () => {
    player.expect(["audio"]);
    expect(posts).toBe(1);
    player.expect(["audio", "video"]);
    await connect();
    expect(posts).toBe(2);
    // The relay still does not send it: this browser cannot play it.
    player.expect(["audio", "video"]);
    await connect();
    expect(posts).toBe(2);
    player.expect(["audio"]);
    player.expect(["audio", "video"]);
    await connect();
    expect(posts).toBe(3);
  });

  it("keeps one stream for the element and says when there is sound", () => {
    const before = player.sound;
    peers.at(-1)!.ontrack!({ track: { kind: "audio", id: 1 } });
    peers.at(-1)!.ontrack!({ track: { kind: "audio", id: 2 } });
    expect(player.sound).toBe(before);
    expect(player.sound.getTracks()).toEqual([{ kind: "audio", id: 2 }]);
    expect(onSound).toHaveBeenCalledTimes(2);
  });
});
