// Plays one stream: a receiving session (WHEP) and the media elements' streams, which stay the same
// across reconnections so that the elements never have to be started again.

import { at } from "../api/root";
import type { Kind, Track } from "../api/types";
import { EventFeed, type Feed } from "./event-feed";
import { type Links, NO_LINKS } from "./links";
import { type Playout, PlayoutGauge, sample } from "./playout";
import { encodingsOf, qualityOf, type Told, UNTOLD } from "./quality";
import { browserFetch } from "./resource";
import { type Port, sentCodecs, sentKinds, withOpus } from "./sdp";
import { Session, type Setup, type State } from "./session";
import { MENDING_STORE_MS, pathOf, type SoundPath, SoundPathGauge, STORE_MS } from "./sound-path";
import type { Wish } from "./wish";
import { WishSender } from "./wish-sender";

export interface PlayerEvents {
  onState(state: State): void;
  /** The picture came or went. */
  onVideo(present: boolean): void;
  /** There is sound to play: an element that had ended needs to be started. */
  onSound(): void;
  /** The relay told something of the picture. */
  onTold(told: Told): void;
}

export class Player {
  /** For an audio element: alone, so that it plays on with the screen locked. */
  readonly sound = new MediaStream();
  /** For a muted video element. */
  readonly picture = new MediaStream();
  private readonly session: Session;
  private readonly wishes: WishSender;
  private readonly feed: EventFeed;
  /** Of the session there is. */
  private links: Links = NO_LINKS;
  private told: Told = UNTOLD;
  /** Somebody wants to know what the relay tells. */
  private attentive = true;
  private readonly gauge = new PlayoutGauge();
  private soundGauge = new SoundPathGauge();
  /** What the browser's statistics show of it; undefined before they were read. */
  private measured: SoundPath | undefined;
  private kinds: Kind[] = [];
  /** What the relay may send; undefined before it answered. */
  private codecs: string[] | undefined;
  /** What the stream was when the relay said that nothing of it plays here. */
  private refused: string | undefined;
  private tracks: Track[] = [];
  /** Since when sound is waited for, or when it came last. */
  private since: number | undefined;
  /** Kinds asked for since they came up: one that this browser cannot play is not asked for again and again. */
  private readonly tried = new Set<Kind>();

  constructor(
    readonly stream: string,
    private readonly events: PlayerEvents,
    setup: Partial<Setup> = {},
    newFeed?: (url: string) => Feed,
  ) {
    this.wishes = new WishSender(setup.fetch ?? browserFetch);
    const tell = (part: Partial<Told>) => this.tell(part);
    this.feed = new EventFeed(
      {
        layers: (data) => {
          const encodings = encodingsOf(data);
          // While nothing is sent, what was wished of the last encodings still holds.
          if (encodings && encodings.active.length > 0) tell({ encodings });
        },
        quality: (data) => tell({ quality: qualityOf(data) }),
      },
      () => tell({ quality: undefined }),
      newFeed,
    );
    this.session = new Session({
      endpoint: at(`/whep/${stream}`),
      prepare(peer) {
        peer.addTransceiver("audio", { direction: "recvonly" });
        peer.addTransceiver("video", { direction: "recvonly" });
      },
      // Chromium decodes stereo only if its own offer says so.
      transformOffer: (offer) => withOpus(offer, { stereo: 1 }),
      onState: (state) => {
        if (state.phase === "refused" && state.problem?.status === 406) this.refused = shape(this.tracks);
        this.events.onState(state);
      },
      onTrack: (track) => this.put(track),
      onAnswer: (answer, links) => {
        this.kinds = sentKinds(answer);
        this.codecs = sentCodecs(answer);
        this.gauge.reset();
        this.soundGauge = new SoundPathGauge();
        this.measured = undefined;
        if (!this.kinds.includes("video")) this.clear(this.picture);
        this.events.onVideo(this.kinds.includes("video"));
        this.links = links;
        // What the former session was told holds until this one is told something, if it ever is.
        const quality = links.events === undefined ? undefined : this.told.quality;
        tell({ wishable: links.layer !== undefined, quality });
        this.wishes.attach(links.layer);
        this.listen();
      },
      onEnd: () => {
        this.links = NO_LINKS;
        this.wishes.detach();
        this.feed.close();
      },
      ...setup,
    });
  }

  get running(): boolean {
    return this.session.phase !== "idle" && this.session.phase !== "refused";
  }

  /** What the way here does to the sound; undefined before anything is known of it. */
  get soundPath(): SoundPath | undefined {
    return pathOf(this.measured, this.told.quality?.sound);
  }

  start(): void {
    this.since = undefined;
    this.refused = undefined;
    this.session.start();
  }

  /** See {@link Session.ports}. */
  get ports(): Port[] {
    return this.session.ports;
  }

  /** What of a stream does not play here. */
  lacks(tracks: readonly Track[]): Track[] {
    if (this.refused !== undefined) return [...tracks];
    const { codecs } = this;
    return codecs === undefined ? [] : tracks.filter((track) => !codecs.includes(track.codec));
  }

  /** Milliseconds for which there has been nothing to hear. */
  waited(now: number): number {
    this.since ??= now;
    return now - this.since;
  }

  stop(leaving = false): Promise<void> {
    this.clear(this.sound);
    this.clear(this.picture);
    return this.session.stop(leaving);
  }

  /** What of the picture is wished, in this session and those after it. */
  wish(wish: Wish): void {
    this.wishes.wish(wish);
  }

  /** Whether somebody wants to know what the relay tells of the picture. */
  attend(attentive: boolean): void {
    this.attentive = attentive;
    this.listen();
  }

  /** See {@link Session.check}. */
  check(): void {
    this.session.check();
  }

  /** The stream is this now: what was not there when we joined needs a new offer. */
  expect(tracks: readonly Track[]): void {
    this.tracks = [...tracks];
    if (this.refused !== undefined && this.refused !== shape(tracks)) {
      this.refused = undefined;
      this.session.start();
    }
    const kinds = tracks.map((track) => track.kind);
    for (const kind of this.tried) if (!kinds.includes(kind)) this.tried.delete(kind);
    if (this.session.phase !== "connected") return;
    const missing = kinds.filter((kind) => !this.kinds.includes(kind) && !this.tried.has(kind));
    if (missing.length === 0) return;
    for (const kind of missing) this.tried.add(kind);
    this.session.renew();
  }

  async measure(now: number): Promise<Playout | undefined> {
    const peer = this.session.peer;
    if (!peer) return undefined;
    const playout = this.gauge.take(
      sample((await peer.getStats()) as unknown as Map<string, Record<string, unknown>>, now),
    );
    if (playout.quietMs !== undefined) this.since = Math.max(this.since ?? 0, now - playout.quietMs);
    if (playout.sound) this.measured = this.soundGauge.take(playout.sound, now);
    this.store(peer);
    return playout;
  }

  /** Keeps the sound as briefly as its way here allows. */
  private store(peer: RTCPeerConnection): void {
    const target = this.soundPath?.mending ? MENDING_STORE_MS : STORE_MS;
    for (const receiver of peer.getReceivers()) {
      if (receiver.track.kind !== "audio" || !("jitterBufferTarget" in receiver)) continue;
      if (receiver.jitterBufferTarget !== target) receiver.jitterBufferTarget = target;
    }
  }

  private listen(): void {
    this.feed.open(this.attentive ? this.links.events : undefined);
  }

  private tell(part: Partial<Told>): void {
    this.told = { ...this.told, ...part };
    this.events.onTold(this.told);
  }

  private put(track: MediaStreamTrack): void {
    const into = track.kind === "audio" ? this.sound : this.picture;
    this.clear(into);
    into.addTrack(track);
    if (into === this.sound) this.events.onSound();
  }

  private clear(stream: MediaStream): void {
    for (const track of stream.getTracks()) stream.removeTrack(track);
  }
}

/** What makes another stream of it, for a browser. */
const shape = (tracks: readonly Track[]) => tracks.map((track) => track.codec).join(" ");
