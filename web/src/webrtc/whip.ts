// Publishes captured media under a name: a sending session (WHIP) and what it measures of itself.
import { at } from "../api/root";
import { addPicture, encodingsOf, ONE, type Outgoing, Outgoings, type Picture, pictureOf } from "./encodings";
import { hasSimulcast, type Port, withOpus } from "./sdp";
import { Session, type Setup, type State } from "./session";

/** How the way to the relay is, since the last reading. */
export interface Uplink {
  kbps: number;
  roundTripMs: number | undefined;
  /** 0 to 1, as the relay reports it. */
  loss: number | undefined;
  /** Of the picture, the largest first; none where there is only sound. */
  encodings: Outgoing[];
}

/** Enough for music in stereo; the relay's answer may ask for less. */
const AUDIO_BITRATE = 256_000;

export class Publisher {
  private readonly session: Session;
  private last: { at: number; bytes: number } | undefined;
  private readonly outgoings = new Outgoings();
  /** The picture is offered in several encodings. */
  private several = false;
  /** The relay takes one. */
  private takesOne = false;

  constructor(
    readonly stream: string,
    private readonly media: MediaStream,
    token: string | undefined,
    onState: (state: State) => void,
    setup: Partial<Setup> = {},
  ) {
    this.session = new Session({
      endpoint: at(`/whip/${stream}`),
      token,
      prepare: (peer) => this.prepare(peer),
      transformOffer: (offer) => {
        this.several = hasSimulcast(offer);
        return withOpus(offer, { stereo: 1, "sprop-stereo": 1, maxaveragebitrate: AUDIO_BITRATE });
      },
      onAnswer: (answer) => this.answered(answer),
      onState,
      ...setup,
    });
  }

  start(): void {
    this.session.start();
  }

  /** See {@link Session.stop}. */
  stop(leaving = false): Promise<void> {
    return this.session.stop(leaving);
  }

  check(): void {
    this.session.check();
  }

  /** See {@link Session.ports}. */
  get ports(): Port[] {
    return this.session.ports;
  }

  async measure(now: number): Promise<Uplink | undefined> {
    const peer = this.session.peer;
    if (!peer) return undefined;
    let bytes = 0;
    let roundTrip: number | undefined;
    let loss: number | undefined;
    const entries: Record<string, unknown>[] = [];
    (await peer.getStats()).forEach((entry: Record<string, unknown>) => {
      entries.push(entry);
      if (entry.type === "outbound-rtp") bytes += Number(entry.bytesSent ?? 0);
      if (entry.type === "remote-inbound-rtp") loss = Math.max(loss ?? 0, Number(entry.fractionLost ?? 0));
      if (
        entry.type === "candidate-pair" &&
        entry.nominated === true &&
        typeof entry.currentRoundTripTime === "number"
      ) {
        roundTrip = entry.currentRoundTripTime;
      }
    });
    const last = this.last && bytes >= this.last.bytes ? this.last : undefined;
    this.last = { at: now, bytes };
    return {
      kbps: last && now > last.at ? Math.round(((bytes - last.bytes) * 8) / (now - last.at)) : 0,
      roundTripMs: roundTrip === undefined ? undefined : roundTrip * 1000,
      loss,
      encodings: this.outgoings.read(entries, this.picture(), now),
    };
  }

  private prepare(peer: RTCPeerConnection): void {
    for (const track of this.media.getTracks()) {
      if (track.kind === "video") {
        addPicture(peer, track, this.media, this.takesOne ? [ONE] : encodingsOf(pictureOf(track)));
        continue;
      }
      peer.addTransceiver(track, {
        direction: "sendonly",
        streams: [this.media],
        sendEncodings: [{ maxBitrate: AUDIO_BITRATE }],
      });
    }
  }

  /**
   * Without an answer to simulcast a browser sends the first encoding, which is the smallest, and Chromium cannot
   * restart ICE any more: one encoding is offered instead.
   */
  private answered(answer: string): void {
    if (!this.several || hasSimulcast(answer)) return;
    this.takesOne = true;
    this.session.renew();
  }

  private picture(): Picture | undefined {
    const track = this.media.getTracks().find(({ kind }) => kind === "video");
    return track && pictureOf(track);
  }
}
