import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Phase, Session, type Setup } from "../../src/webrtc/session";

/** A connection as far as a session looks at one. */
class FakePeer {
  static all: FakePeer[] = [];
  connectionState = "new";
  onconnectionstatechange: (() => void) | null = null;
  ontrack: unknown = null;
  closed = false;
  remote: string[] = [];
  restarts = 0;

  constructor() {
    FakePeer.all.push(this);
  }
  async createOffer(options?: { iceRestart?: boolean }) {
    if (options?.iceRestart) this.restarts += 1;
    return { sdp: `v=0\r\nm=audio 9 X 111\r\na=ice-ufrag:u${this.restarts}\r\na=ice-pwd:p\r\na=mid:0\r\n` };
  }
  async setLocalDescription() {}
  async setRemoteDescription(description: { sdp: string }) {
    this.remote.push(description.sdp);
  }
  close() {
    this.closed = true;
  }
  become(state: string) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }
}

type Answer = () => Response | Promise<Response>;
const created = () =>
  new Response("v=0\r\nm=audio 9 X 111\r\na=ice-ufrag:r\r\na=ice-pwd:p\r\n", {
    status: 201,
    headers: { location: "/whep/main-stage/s1" },
  });
const restarted = () => new Response("a=ice-ufrag:r2\r\na=ice-pwd:p2\r\n", { status: 200 });
const gone = () => new Response("{}", { status: 404 });
const silent = () => new Response("{}", { status: 409, headers: { "retry-after": "3" } });

describe("session", () => {
  let answers: Record<string, Answer>;
  let asked: string[];
  let heard: (string | undefined)[];
  let phases: Phase[];
  let session: Session;

  beforeEach(() => {
    vi.useFakeTimers();
    FakePeer.all = [];
    asked = [];
    heard = [];
    phases = [];
    answers = { POST: created, PATCH: restarted, DELETE: () => new Response("") };
    const setup: Setup = {
      endpoint: "/whep/main-stage",
      prepare: () => undefined,
      transformOffer: (offer) => offer,
      onState: (state) => phases.push(state.phase),
      onAnswer: (_answer, { layer }) => heard.push(layer),
      onEnd: () => heard.push(`over after ${asked.length} requests`),
      newPeer: () => new FakePeer() as unknown as RTCPeerConnection,
      random: () => 0,
      fetch: async (url, init) => {
        asked.push(`${init.method} ${url}`);
        return answers[init.method!]!();
      },
    };
    session = new Session(setup);
  });
  afterEach(() => void vi.useRealTimers());

  const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
  const peer = () => FakePeer.all.at(-1)!;
  const count = (start: string) => asked.filter((line) => line.startsWith(start)).length;
  async function connected() {
    session.start();
    await settle();
    peer().become("connected");
  }

  it("connects with one POST and ends with DELETE", async () => {
    await connected();
    expect(session.phase).toBe("connected");
    await session.stop();
    expect(asked).toEqual(["POST /whep/main-stage", "DELETE /whep/main-stage/s1"]);
    expect(peer().closed).toBe(true);
  });

  it("says what the relay has for each session, and when that is over", async () => {
    answers.POST = () =>
      new Response("", {
        status: 201,
        headers: { location: "/whep/main-stage/s1", link: '<s1/layer>; rel="urn:ietf:params:whep:ext:core:layer"' },
      });
    answers.PATCH = gone;
    await connected();
    peer().become("failed");
    await settle();
    await session.stop();
    await session.stop();
    // Before DELETE, each time.
    expect(heard).toEqual(["/s1/layer", "over after 2 requests", "/s1/layer", "over after 4 requests"]);
    expect(asked.slice(1, 4)).toEqual([
      "PATCH /whep/main-stage/s1",
      "DELETE /whep/main-stage/s1",
      "POST /whep/main-stage",
    ]);
  });

  it("waits as long as the relay asks while nobody publishes", async () => {
    answers.POST = silent;
    session.start();
    await settle();
    expect(session.phase).toBe("waiting");
    await settle(2_900);
    expect(count("POST")).toBe(1);
    answers.POST = created;
    await settle(200);
    expect(count("POST")).toBe(2);
    peer().become("connected");
    expect(session.phase).toBe("connected");
  });

  it("sits out a short stumble without asking anything", async () => {
    await connected();
    peer().become("disconnected");
    expect(session.phase).toBe("reconnecting");
    await settle(1_900);
    peer().become("connected");
    await settle(10_000);
    expect(session.phase).toBe("connected");
    expect(count("PATCH")).toBe(0);
  });

  it("restarts ICE after two seconds and keeps the session", async () => {
    await connected();
    peer().become("disconnected");
    await settle(2_000);
    expect(count("PATCH")).toBe(1);
    expect(peer().remote.at(-1)).toContain("a=ice-ufrag:r2");
    peer().become("connected");
    await settle(10_000);
    expect(FakePeer.all).toHaveLength(1);
    expect(count("POST")).toBe(1);
  });

  it("makes a new session when the relay no longer knows the old one", async () => {
    await connected();
    answers.PATCH = gone;
    peer().become("failed");
    await settle();
    expect(count("PATCH")).toBe(1);
    expect(count("POST")).toBe(2);
    peer().become("connected");
    expect(session.phase).toBe("connected");
  });

  it("makes a new session when the restart does not connect in time", async () => {
    await connected();
    peer().become("failed");
    await settle(4_100);
    expect(count("POST")).toBe(2);
    expect(FakePeer.all[0]!.closed).toBe(true);
  });

  it("backs off while the relay cannot be reached, then comes back", async () => {
    answers.POST = () => Promise.reject(new TypeError("no route"));
    session.start();
    await settle(30_000);
    expect(count("POST")).toBeGreaterThan(4);
    expect(count("POST")).toBeLessThan(9);
    answers.POST = created;
    await settle(11_000);
    peer().become("connected");
    expect(session.phase).toBe("connected");
  });

  it("does not ask again where asking is pointless", async () => {
    answers.POST = () => new Response('{"title":"Give a token."}', { status: 401 });
    session.start();
    await settle(60_000);
    expect(session.phase).toBe("refused");
    expect(count("POST")).toBe(1);
    answers.POST = created;
    session.start();
    await settle();
    expect(count("POST")).toBe(2);
  });

  it("ends a session that was answered after stop", async () => {
    let answer: (response: Response) => void = () => undefined;
    answers.POST = () => new Promise((done) => (answer = done));
    session.start();
    await settle();
    await session.stop();
    answer(created());
    await settle();
    expect(asked.at(-1)).toBe("DELETE /whep/main-stage/s1");
    expect(session.phase).toBe("idle");
  });

  it("finds out at once when told that the relay was away", async () => {
    await connected();
    answers.PATCH = gone;
    session.check();
    await settle();
    expect(asked.slice(1)).toEqual([
      "PATCH /whep/main-stage/s1",
      "DELETE /whep/main-stage/s1",
      "POST /whep/main-stage",
    ]);
  });
});
