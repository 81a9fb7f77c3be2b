import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Stream } from "../../src/api/types";
import { type Elements, type Listening, usePlayback } from "../../src/hooks/playback";
import { type FakeBrowser, FakeElement, fakeBrowser, PICTURE, SOUND } from "./browser";
import { type Staged, stage } from "./stage";

const STREAM = { name: "main-stage", tracks: [{ kind: "audio", codec: "opus", layers: 1 }] } as Stream;
const VIDEO = { kind: "video", codec: "vp8", layers: 1 } as const;
const LISTENING: Listening = {
  name: "main-stage",
  stream: STREAM,
  known: true,
  cutOff: false,
  returns: 0,
  onWeak: () => undefined,
};

describe("playback", () => {
  let browser: FakeBrowser;
  let audio: FakeElement;
  let video: FakeElement;
  let playback: Staged<Listening, ReturnType<typeof usePlayback>>;

  beforeEach(async () => {
    vi.useFakeTimers();
    browser = fakeBrowser();
    audio = new FakeElement();
    video = new FakeElement();
    const elements = { audio: { current: audio }, video: { current: video } } as unknown as Elements;
    playback = await stage((listening: Listening) => usePlayback(listening, elements), LISTENING);
  });
  afterEach(async () => {
    await playback.end();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  const press = async () => {
    await playback.act(() => playback.now.press());
    await pass(10);
  };
  const pass = (ms: number) => playback.act(() => vi.advanceTimersByTimeAsync(ms));
  /** Half a second in which so many packets came. */
  const hear = (packetsReceived: number) => {
    browser.stats = [{ type: "inbound-rtp", kind: "audio", packetsReceived }];
    return pass(500);
  };

  it("plays at one press and stops at the next", async () => {
    expect(playback.now.status.text).toBe("Tap to listen");
    await press();
    await hear(25);
    expect([playback.now.status.text, playback.now.playing, audio.paused]).toEqual(["Live", true, false]);
    await press();
    expect([playback.now.status.text, playback.now.playing, audio.paused]).toEqual(["Tap to listen", false, true]);
    expect(playback.now.playout).toBeUndefined();
    expect(browser.asked).toEqual(["POST /whep/main-stage", "DELETE /session"]);
  });

  it("keeps more of the sound while losses are mended, and less 20 s after the last one", async () => {
    const sound = { type: "inbound-rtp", kind: "audio" };
    let [packetsReceived, packetsLost] = [0, 0];
    const lose = (lost: number) => {
      packetsReceived += 25;
      packetsLost += lost;
      browser.stats = [{ ...sound, packetsReceived, packetsLost }];
      return pass(500);
    };
    await press();
    await lose(0);
    await lose(0);
    expect([browser.receiver.jitterBufferTarget, playback.now.status.text]).toEqual([0, "Live"]);
    await lose(1);
    await lose(1);
    await lose(0);
    expect([browser.receiver.jitterBufferTarget, playback.now.status.text]).toEqual([80, "Live, mending losses"]);
    for (let reading = 0; reading < 40; reading++) await lose(0);
    expect([browser.receiver.jitterBufferTarget, playback.now.status.text]).toEqual([0, "Live"]);
  });

  it("wants another tap, and no other session, when the browser keeps the sound back", async () => {
    audio.refuses = Object.assign(new Error(), { name: "NotAllowedError" });
    await press();
    await hear(25);
    expect([playback.now.needsTap, playback.now.status.text]).toEqual([true, "Tap to hear it"]);
    audio.refuses = undefined;
    await press();
    expect([playback.now.needsTap, playback.now.status.text]).toEqual([false, "Live"]);
    expect(browser.asked).toEqual(["POST /whep/main-stage"]);
  });

  it("plays again on a page that comes back from the browser's cache, if it did before", async () => {
    browser.fire("pagehide");
    await playback.act(() => browser.fire("pageshow", { persisted: true }));
    expect(browser.asked).toEqual([]);
    await press();
    await playback.act(() => browser.fire("pagehide"));
    expect(browser.asked).toEqual(["POST /whep/main-stage", "DELETE /session leaving"]);
    await playback.act(() => browser.fire("pageshow", { persisted: true }));
    await pass(10);
    expect(browser.asked.at(-1)).toBe("POST /whep/main-stage");
  });

  it("looks after the connection when the relay is back and nothing comes, and only then", async () => {
    await press();
    await hear(25);
    await playback.set({ ...LISTENING, returns: 1 });
    await hear(50);
    await hear(75);
    await pass(200);
    expect(browser.asked).toEqual(["POST /whep/main-stage"]);
    await playback.set({ ...LISTENING, returns: 2 });
    await pass(1_200);
    expect(browser.asked.at(-1)).toBe("PATCH /session");
  });

  it("shows a picture once a frame of it has come, while it is advertised", async () => {
    browser.answer = SOUND + PICTURE;
    const both: Listening = { ...LISTENING, stream: { ...STREAM, tracks: [...STREAM.tracks, VIDEO] } };
    await playback.set(both);
    await press();
    await hear(25);
    await playback.act(() => playback.now.frame());
    expect(playback.now.pictured).toBe(false);
    video.videoWidth = 640;
    await playback.act(() => playback.now.frame());
    expect(playback.now.pictured).toBe(true);
    await playback.set(LISTENING);
    expect(playback.now.pictured).toBe(false);
  });

  it("ends its session with its page", async () => {
    await press();
    await playback.end();
    expect(browser.asked).toEqual(["POST /whep/main-stage", "DELETE /session"]);
  });
});
