// One WebRTC transport to the relay that mends itself: ICE restart when it stumbles, a new offer with
// back-off when that does not help. What flows over it belongs to whep.ts and whip.ts.
import { Problem } from "../api/problem";
import type { Links } from "./links";
import { browserFetch, type Fetch, Resource } from "./resource";
import { mediaPorts, type Port, restartFragment, withRestart } from "./sdp";

/** idle: not asked to run. waiting: the relay said to come back. refused: asking again is pointless. */
export type Phase = "idle" | "connecting" | "waiting" | "connected" | "reconnecting" | "refused";

export interface State {
  phase: Phase;
  problem: Problem | undefined;
}

export interface Setup {
  endpoint: string;
  token?: string | undefined;
  /** Adds tracks or transceivers to a fresh connection. */
  prepare(peer: RTCPeerConnection): void;
  /** Changes the browser's own offer before it is used. */
  transformOffer(offer: string): string;
  onState(state: State): void;
  onTrack?(track: MediaStreamTrack): void;
  /** The relay answered: what it accepted, and what else it has for the session. */
  onAnswer?(answer: string, links: Links): void;
  /** The session is over that was answered last. */
  onEnd?(): void;
  fetch?: Fetch;
  newPeer?(): RTCPeerConnection;
  random?(): number;
}

/** A stumble shorter than this mends without help. */
const PATIENCE_MS = 2_000;
/** A restart that has not connected by then has failed. */
const RESTART_MS = 4_000;
/** So long the way to the relay may take; what takes longer is held back somewhere. */
export const CONNECT_MS = 8_000;
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 8_000;
/** WHEP answers 409 with this header; without it, ask this often. */
const WAIT_MS = 2_000;

export class Session {
  private state: State = { phase: "idle", problem: undefined };
  private pc: RTCPeerConnection | undefined;
  private resource: Resource | undefined;
  private answer = "";
  /** Counts attempts: whatever an older one still has in flight is void. */
  private turn = 0;
  private failures = 0;
  private mending = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly setup: Setup) {}

  /** The connection in use, for statistics. */
  get peer(): RTCPeerConnection | undefined {
    return this.pc;
  }

  get phase(): Phase {
    return this.state.phase;
  }

  /** Where the relay takes media, as it said last. */
  get ports(): Port[] {
    return mediaPorts(this.answer);
  }

  start(): void {
    if (this.state.phase !== "idle" && this.state.phase !== "refused") return;
    this.failures = 0;
    this.tell("connecting");
    void this.connect();
  }

  /** Ends the session here and on the relay. `leaving`: the page is going away. */
  stop(leaving = false): Promise<void> {
    this.turn += 1;
    clearTimeout(this.timer);
    const ended = this.drop(leaving);
    this.tell("idle");
    return ended;
  }

  /** Something else says that the relay was away: find out now instead of waiting for ICE to notice. */
  check(): void {
    if (this.state.phase === "connected") void this.mend();
    else if (this.state.phase === "reconnecting" || this.state.phase === "waiting") this.renew();
  }

  /** A new offer at once, for instance because the stream has a track more. */
  renew(): void {
    if (this.state.phase === "idle") return;
    this.tell("reconnecting");
    void this.connect();
  }

  private async connect(): Promise<void> {
    const turn = ++this.turn;
    clearTimeout(this.timer);
    this.mending = false;
    // The old session ends first: a name is published once. A relay that is gone must not hold us up.
    await Promise.race([this.drop(), new Promise((done) => setTimeout(done, 1_000))]);
    if (turn !== this.turn) return;
    const pc = this.setup.newPeer?.() ?? new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.pc = pc;
    pc.onconnectionstatechange = () => turn === this.turn && this.watch(pc);
    pc.ontrack = (event) => turn === this.turn && this.setup.onTrack?.(event.track);
    try {
      this.setup.prepare(pc);
      const offer = await pc.createOffer();
      const sdp = this.setup.transformOffer(offer.sdp ?? "");
      await pc.setLocalDescription({ type: "offer", sdp });
      // No wait for candidates: the relay learns our address from the checks we send.
      const resource = await Resource.open(this.fetch, this.setup.endpoint, sdp, this.setup.token);
      if (turn !== this.turn) return void resource.end();
      this.resource = resource;
      this.answer = resource.answer;
      this.setup.onAnswer?.(resource.answer, resource.links);
      await pc.setRemoteDescription({ type: "answer", sdp: resource.answer });
      if (turn === this.turn && pc.connectionState !== "connected") this.after(CONNECT_MS, () => this.renew());
    } catch (error) {
      if (turn === this.turn) this.failed(error);
    }
  }

  private watch(pc: RTCPeerConnection): void {
    switch (pc.connectionState) {
      case "connected":
        clearTimeout(this.timer);
        this.failures = 0;
        this.mending = false;
        this.tell("connected");
        return;
      case "disconnected":
        if (this.mending) return;
        this.tell("reconnecting");
        this.after(PATIENCE_MS, () => void this.mend());
        return;
      case "failed":
        this.tell("reconnecting");
        void (this.mending ? this.connect() : this.mend());
        return;
    }
  }

  /** Restarts ICE on the session there is; if the relay no longer has it, makes a new one. */
  private async mend(): Promise<void> {
    const { pc, resource, turn } = this;
    if (this.mending) return;
    if (!pc || !resource) return void this.connect();
    this.mending = true;
    try {
      const offer = await pc.createOffer({ iceRestart: true });
      const sdp = this.setup.transformOffer(offer.sdp ?? "");
      await pc.setLocalDescription({ type: "offer", sdp });
      const fragment = await resource.restart(restartFragment(sdp));
      if (turn !== this.turn) return;
      this.answer = withRestart(this.answer, fragment);
      await pc.setRemoteDescription({ type: "answer", sdp: this.answer });
      if (turn !== this.turn) return;
      if (pc.connectionState === "connected") this.mending = false;
      this.after(RESTART_MS, () => {
        if (pc.connectionState !== "connected") this.renew();
      });
    } catch {
      if (turn === this.turn) this.renew();
    }
  }

  private failed(error: unknown): void {
    const problem =
      error instanceof Problem ? error : new Problem(0, "This browser could not set up the connection.", String(error));
    void this.drop();
    if (!problem.passing) {
      this.tell("refused", problem);
      return;
    }
    this.failures += 1;
    const waiting = problem.status === 409;
    this.tell(
      waiting ? "waiting" : this.failures > 1 || this.state.phase === "reconnecting" ? "reconnecting" : "connecting",
      problem,
    );
    const backoff = Math.min(RETRY_MIN_MS * 2 ** Math.min(this.failures - 1, 8), RETRY_MAX_MS);
    const random = this.setup.random ?? Math.random;
    const wait = problem.retryAfterMs ?? (waiting ? WAIT_MS : backoff);
    // Spread, so that a thousand phones do not come back in one instant.
    this.after(wait + random() * Math.min(wait * 0.25 + 100, 2_000), () => void this.connect());
  }

  private drop(leaving = false): Promise<void> {
    const { pc, resource } = this;
    this.pc = undefined;
    this.resource = undefined;
    if (pc) {
      pc.onconnectionstatechange = null;
      pc.ontrack = null;
      pc.close();
    }
    if (!resource) return Promise.resolve();
    this.setup.onEnd?.();
    return resource.end(leaving);
  }

  private after(ms: number, then: () => void): void {
    clearTimeout(this.timer);
    const turn = this.turn;
    this.timer = setTimeout(() => turn === this.turn && then(), ms);
  }

  private tell(phase: Phase, problem?: Problem): void {
    this.state = { phase, problem };
    this.setup.onState(this.state);
  }

  private get fetch(): Fetch {
    return this.setup.fetch ?? browserFetch;
  }
}
