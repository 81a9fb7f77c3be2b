import { describe, expect, it } from "vitest";
import { addPicture, type Encoding, encodingsOf, Outgoings, pictureOf } from "../../src/webrtc/encodings";

const camera = (width?: number, height?: number, frameRate = 30) =>
  encodingsOf({ width, height, frameRate, screen: false });
const screen = (width: number, height: number) => encodingsOf({ width, height, frameRate: 30, screen: true });
const sizes = (encodings: Encoding[]) => encodings.map(({ rid, divisor }) => `${rid ?? ""}/${divisor}`).join(" ");
const kbps = (encodings: Encoding[]) => encodings.map(({ maxBitrate }) => maxBitrate / 1_000);

describe("encodings of a camera", () => {
  it("are three, and none is less than 320 pixels wide", () => {
    expect(sizes(camera(1920, 1080))).toBe("l/4 m/2 h/1");
    expect(sizes(camera(1280, 720))).toBe("l/4 m/2 h/1");
    expect(sizes(camera(1279, 720))).toBe("m/2 h/1");
    expect(sizes(camera(640, 480))).toBe("m/2 h/1");
  });

  it("are one without a name where there is no room for a second", () => {
    expect(camera(639, 480)).toEqual([{ divisor: 1, maxBitrate: 2_500_000 }]);
    expect(sizes(camera(320, 240))).toBe("/1");
    expect(sizes(camera())).toBe("/1");
  });

  it("are the same in a phone that is held upright", () => {
    expect(camera(720, 1280)).toEqual(camera(1280, 720));
  });

  it("may take more the more pixels and frames there are, up to a limit", () => {
    expect(kbps(camera(1280, 720))).toEqual([160, 570, 2_000]);
    expect(kbps(camera(640, 480))).toEqual([210, 740]);
    expect(kbps(camera(1280, 720, 60)).at(-1)).toBeGreaterThan(3_000);
    expect(kbps(camera(1280, 720, 15)).at(-1)).toBeLessThan(1_200);
    expect(kbps(camera(3840, 2160))).toEqual([330, 1_150, 4_000]);
  });
});

describe("encodings of a screen", () => {
  it("are two from 1280 pixels on, else one", () => {
    expect(sizes(screen(3840, 2160))).toBe("m/2 h/1");
    expect(sizes(screen(1280, 800))).toBe("m/2 h/1");
    expect(sizes(screen(1279, 800))).toBe("/1");
  });

  it("are told from those of a camera by what the track was opened for", () => {
    const getSettings = () => ({ width: 1280, height: 720 });
    expect(pictureOf({ contentHint: "detail", getSettings } as unknown as MediaStreamTrack).screen).toBe(true);
    expect(pictureOf({ contentHint: "motion", getSettings } as unknown as MediaStreamTrack).screen).toBe(false);
  });
});

describe("adding a picture", () => {
  /** What a browser that throws where `refuses` says so was asked for. */
  function asked(refuses: (encodings: RTCRtpEncodingParameters[]) => boolean): RTCRtpEncodingParameters[][] {
    const tries: RTCRtpEncodingParameters[][] = [];
    const addTransceiver = (_: unknown, { sendEncodings }: RTCRtpTransceiverInit) => {
      tries.push(sendEncodings!);
      if (refuses(sendEncodings!)) throw new TypeError("no");
    };
    const peer = { addTransceiver } as unknown as RTCPeerConnection;
    addPicture(peer, {} as MediaStreamTrack, {} as MediaStream, camera(640, 480));
    return tries;
  }

  it("asks for layers in each encoding", () => {
    expect(asked(() => false)).toEqual([
      [
        { rid: "m", scaleResolutionDownBy: 2, maxBitrate: 210_000, scalabilityMode: "L1T3" },
        { rid: "h", scaleResolutionDownBy: 1, maxBitrate: 740_000, scalabilityMode: "L1T3" },
      ],
    ]);
  });

  it("does without layers where the browser does not know them", () => {
    const tries = asked(([first]) => "scalabilityMode" in first!);
    expect(tries.at(-1)!.map(({ rid }) => rid)).toEqual(["m", "h"]);
  });

  it("sends one encoding where the browser refuses several", () => {
    const tries = asked((encodings) => encodings.length > 1);
    expect(tries.at(-1)).toEqual([{ maxBitrate: 2_500_000 }]);
  });
});

describe("what leaves of each encoding", () => {
  const PICTURE = { width: 1280, height: 720, screen: false };
  const entry = (rid: string, bytesSent: number, framesEncoded: number, more = {}) => {
    const size = framesEncoded ? { frameWidth: 640, frameHeight: 360 } : {};
    return { type: "outbound-rtp", kind: "video", ssrc: rid, rid, bytesSent, framesEncoded, ...size, ...more };
  };

  it("is counted from one reading to the next, the largest first", () => {
    const outgoings = new Outgoings();
    const sound = { type: "outbound-rtp", kind: "audio", ssrc: 1, bytesSent: 9_000 };
    outgoings.read([sound, entry("l", 1_000, 3), entry("h", 5_000, 3), entry("m", 0, 3)], PICTURE, 1_000);
    const read = outgoings.read([entry("l", 3_500, 33), entry("h", 130_000, 33), entry("m", 0, 3)], PICTURE, 2_000);
    expect(read.map(({ rid, kbps }) => [rid, kbps])).toEqual([
      ["h", 1_000],
      ["m", 0],
      ["l", 20],
    ]);
  });

  it("is nothing while the browser encodes no frame, also where it repeats old ones", () => {
    const outgoings = new Outgoings();
    outgoings.read([entry("h", 1_000, 30)], PICTURE, 0);
    expect(outgoings.read([entry("h", 2_000, 30)], PICTURE, 1_000)[0]?.paused).toBe(false);
    expect(outgoings.read([entry("h", 3_000, 30)], PICTURE, 3_000)[0]?.paused).toBe(true);
    expect(outgoings.read([entry("h", 4_000, 31)], PICTURE, 4_000)[0]?.paused).toBe(false);
  });

  it("has its size from the picture where none was encoded yet", () => {
    const [m] = new Outgoings().read([entry("m", 0, 0)], PICTURE, 0);
    expect(m).toEqual({ rid: "m", width: 640, height: 360, kbps: 0, paused: true });
    const [one] = new Outgoings().read([{ ...entry("", 0, 0), rid: undefined }], PICTURE, 0);
    expect([one?.width, one?.height]).toEqual([1280, 720]);
  });

  it("leaves out what the relay did not take", () => {
    const read = new Outgoings().read([entry("l", 0, 0, { active: false }), entry("h", 10, 1)], PICTURE, 0);
    expect(read.map(({ rid }) => rid)).toEqual(["h"]);
  });

  it("begins anew on another connection", () => {
    const outgoings = new Outgoings();
    outgoings.read([entry("h", 100_000, 300)], PICTURE, 0);
    expect(outgoings.read([entry("h", 500, 1, { ssrc: 7 })], PICTURE, 1_000)[0]?.kbps).toBe(0);
  });
});
