import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Player } from "../../src/webrtc/whep";

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

const SOUND = { kind: "audio", codec: "opus", layers: 1 } as const;
const PICTURE = { kind: "video", codec: "h264", layers: 1 } as const;
const SOUND_ONLY =
  "v=0\r\nm=audio 9 X 111\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 X 96\r\na=inactive\r\n";

describe("player", () => {
  let posts: number;
  let peers: { connectionState: string; onconnectionstatechange?: () => void; ontrack?: (event: unknown) => void }[];
  let player: Player;
  let refusal: number | undefined;
  const onSound = vi.fn();

  beforeEach(async () => {
    vi.stubGlobal("MediaStream", FakeStream);
    onSound.mockClear();
    posts = 0;
    refusal = undefined;
    peers = [];
    player = new Player(
      "main-stage",
      { onState: () => undefined, onVideo: () => undefined, onSound, onTold: () => undefined },
      {
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
          if (init.method === "POST" && refusal) return new Response("{}", { status: refusal });
          return new Response(SOUND_ONLY, {
            status: init.method === "POST" ? 201 : 200,
            headers: { location: "/whep/main-stage/s" },
          });
        },
      },
    );
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
    player.expect([SOUND]);
    expect(posts).toBe(1);
    player.expect([SOUND, PICTURE]);
    await connect();
    expect(posts).toBe(2);
    // The relay still does not send it: this browser cannot play it.
    player.expect([SOUND, PICTURE]);
    await connect();
    expect(posts).toBe(2);
    player.expect([SOUND]);
    player.expect([SOUND, PICTURE]);
    await connect();
    expect(posts).toBe(3);
  });

  it("knows what the relay may not send it", () => {
    expect(player.lacks([SOUND])).toEqual([]);
    expect(player.lacks([SOUND, PICTURE])).toEqual([PICTURE]);
  });

  it("asks again after a refusal once the stream is another", async () => {
    player.expect([PICTURE]);
    await connect();
    const before = posts;
    refusal = 406;
    await player.stop();
    player.start();
    await new Promise((done) => setTimeout(done, 5));
    expect(posts).toBe(before + 1);
    expect(player.lacks([PICTURE])).toEqual([PICTURE]);
    for (let round = 0; round < 3; round += 1) player.expect([PICTURE]);
    expect(posts).toBe(before + 1);
    refusal = undefined;
    player.expect([SOUND]);
    await connect();
    expect(posts).toBe(before + 2);
    expect(player.lacks([SOUND])).toEqual([]);
  });

  it("counts from the start how long there has been nothing to hear", () => {
    expect([player.waited(1_000), player.waited(9_500)]).toEqual([0, 8_500]);
    player.start();
    expect(player.waited(20_000)).toBe(0);
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
