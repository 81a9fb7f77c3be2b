import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Stream } from "../../src/api/types";
import { type Elements, type Listening, usePlayback } from "../../src/hooks/playback";
import { FakeFeed } from "../webrtc/feed";
import { type FakeBrowser, FakeElement, fakeBrowser, PICTURE, SOUND } from "./browser";
import { type Staged, stage } from "./stage";

const LINK =
  '</session/layer>; rel="urn:ietf:params:whep:ext:core:layer", ' +
  '</session/events>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; events="layers,quality"';
const TRACKS = [
  { kind: "audio", codec: "opus", layers: 1 },
  { kind: "video", codec: "vp8", layers: 1 },
];
const LISTENING: Listening = {
  name: "main-stage",
  stream: { name: "main-stage", tracks: TRACKS } as Stream,
  known: true,
  cutOff: false,
  returns: 0,
  onWeak: () => undefined,
};
const LADDER = [
  { encodingId: "h", width: 1280, height: 720 },
  { encodingId: "m", width: 640, height: 360 },
  { encodingId: "l", width: 320, height: 180 },
];

describe("picture", () => {
  let browser: FakeBrowser;
  let video: FakeElement;
  let kept: Map<string, string>;
  let playback: Staged<Listening, ReturnType<typeof usePlayback>>;

  beforeEach(async () => {
    vi.useFakeTimers();
    kept = new Map();
    browser = fakeBrowser();
    browser.answer = SOUND + PICTURE;
    browser.link = LINK;
    // Something comes, all the time.
    browser.stats = [{ type: "inbound-rtp", kind: "audio", packetsReceived: 25 }];
    vi.stubGlobal("localStorage", {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
      removeItem: (key: string) => kept.delete(key),
    });
    await open();
  });
  afterEach(async () => {
    await playback.end();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  async function open() {
    video = new FakeElement();
    const elements = { audio: { current: new FakeElement() }, video: { current: video } } as unknown as Elements;
    playback = await stage((listening: Listening) => usePlayback(listening, elements), LISTENING);
  }
  const pass = (ms: number) => playback.act(() => vi.advanceTimersByTimeAsync(ms));
  const feed = () => FakeFeed.all.at(-1)!;
  const quality = (id: string | undefined, reason: string) => {
    const video = LADDER.find((one) => one.encodingId === id) ?? null;
    return playback.act(() => feed().say("quality", JSON.stringify({ video, best: LADDER[0], reason })));
  };
  async function watch() {
    await playback.act(() => playback.now.press());
    await pass(10);
    await playback.act(() => feed().say("layers", JSON.stringify({ 1: { active: LADDER, inactive: [] } })));
    await quality("h", "best");
    Object.assign(video, { videoWidth: 1280, videoHeight: 720 });
    await playback.act(() => playback.now.frame());
    await pass(1_000);
  }
  const draw = async (width: number, height: number) => {
    Object.assign(video, { clientWidth: width, clientHeight: height });
    await playback.act(() => browser.resize());
  };
  const wishes = () => browser.asked.filter((line) => line.includes("/layer")).map((line) => line.split(" ")[2]);
  const line = () => playback.now.picture?.line?.replaceAll("\u00a0", " ");

  it("says what is shown, and offers the choice", async () => {
    expect(playback.now.picture).toBeUndefined();
    await watch();
    expect([line(), playback.now.pictured]).toEqual(["1280 × 720, best there is", true]);
    expect([playback.now.picture?.choice, wishes()]).toEqual(["best", []]);
  });

  it("offers and says nothing at a relay that takes no wishes", async () => {
    browser.link = undefined;
    await playback.act(() => playback.now.press());
    await pass(10);
    Object.assign(video, { videoWidth: 1280, videoHeight: 720 });
    await playback.act(() => playback.now.frame());
    expect([playback.now.picture, playback.now.pictured, FakeFeed.all]).toEqual([undefined, true, []]);
    await playback.act(() => browser.show(false));
    await pass(5_000);
    expect(wishes()).toEqual([]);
  });

  it("offers nothing of a stream without a picture", async () => {
    await watch();
    await playback.set({
      ...LISTENING,
      stream: { ...LISTENING.stream!, tracks: LISTENING.stream!.tracks.slice(0, 1) },
    });
    expect([playback.now.picture, playback.now.pictured]).toEqual([undefined, false]);
  });

  it("keeps what was chosen, and wishes it of the next session", async () => {
    await watch();
    await playback.act(() => playback.now.picture!.choose("save"));
    expect([wishes(), kept.get("peddlenet.picture")]).toEqual([['{"encodingId":"l"}'], "save"]);
    await playback.end();
    await open();
    await watch();
    expect(wishes()).toEqual(['{"encodingId":"l"}', '{"encodingId":"l"}']);
    await pass(1_000);
    await playback.act(() => playback.now.picture!.choose("best"));
    expect([wishes().at(-1), kept.has("peddlenet.picture")]).toEqual(["{}", false]);
  });

  it("wishes nothing else while the stage sends no picture", async () => {
    await watch();
    await playback.act(() => playback.now.picture!.choose("save"));
    for (const layers of [{ 1: { active: [], inactive: LADDER } }, {}, "nonsense"]) {
      await playback.act(() => feed().say("layers", JSON.stringify(layers)));
      await pass(1_000);
    }
    expect(wishes()).toEqual(['{"encodingId":"l"}']);
    await playback.act(() => feed().say("layers", JSON.stringify({ 1: { active: LADDER.slice(0, 1), inactive: [] } })));
    expect(wishes().slice(1)).toEqual(['{"encodingId":"h","maxSpatialLayerId":0,"maxTemporalLayerId":0}']);
  });

  it("shows the lights at once for who wants sound only, and the picture when it is back", async () => {
    await watch();
    await playback.act(() => playback.now.picture!.choose("sound"));
    expect([playback.now.pictured, line(), wishes()]).toEqual([false, "Sound only, as you asked", ['{"video":false}']]);
    await quality(undefined, "wish");
    await pass(5_000);
    await playback.act(() => playback.now.picture!.choose("best"));
    expect([playback.now.pictured, line()]).toEqual([false, "Picture is coming"]);
    await quality("h", "best");
    expect([playback.now.pictured, line()]).toEqual([true, "1280 × 720, best there is"]);
  });

  it("says nothing of what lasts less than a second", async () => {
    await watch();
    await quality("m", "link");
    await pass(900);
    await quality("h", "best");
    await pass(5_000);
    await quality(undefined, "link");
    await pass(900);
    expect([line(), playback.now.pictured]).toEqual(["1280 × 720, best there is", true]);
    await quality("m", "link");
    await pass(900);
    expect([line(), playback.now.pictured]).toEqual(["1280 × 720, best there is", true]);
    await pass(100);
    expect([line(), playback.now.pictured]).toEqual(["640 × 360, your network", true]);
    await quality(undefined, "link");
    await pass(1_000);
    expect([line(), playback.now.pictured]).toEqual(["Picture paused: your network is slow", false]);
  });

  it("wishes no picture two seconds after nobody sees it, and its own choice again at once", async () => {
    await watch();
    await playback.act(() => browser.show(false));
    await pass(900);
    await playback.act(() => browser.show(true));
    await pass(5_000);
    expect(wishes()).toEqual([]);
    await playback.act(() => browser.show(false));
    await pass(1_000);
    expect([wishes(), feed().readyState]).toEqual([['{"video":false}'], 2]);
    await pass(60_000);
    await playback.act(() => browser.show(true));
    expect(wishes()).toEqual(['{"video":false}', "{}"]);
    // The relay says how it was: that is no news to who was away.
    await quality(undefined, "wish");
    await pass(900);
    expect([line(), playback.now.pictured]).toEqual(["1280 × 720, best there is", true]);
    await quality("h", "best");
    await pass(5_000);
    expect([line(), playback.now.pictured]).toEqual(["1280 × 720, best there is", true]);
  });

  it("keeps the picture while it is in a window of its own", async () => {
    await watch();
    await playback.act(() => browser.float(video));
    await playback.act(() => browser.show(false));
    await pass(60_000);
    expect(wishes()).toEqual([]);
    await playback.act(() => browser.float(null));
    await pass(1_000);
    expect(wishes()).toEqual(['{"video":false}']);
  });

  it("wishes no more than is drawn: more at once, less after a while", async () => {
    await watch();
    await draw(300, 169);
    expect(wishes()).toEqual(['{"encodingId":"l"}']);
    await quality("l", "wish");
    await pass(1_000);
    expect(line()).toBe("320 × 180, enough at this size");
    await draw(800, 450);
    expect(wishes()).toEqual(['{"encodingId":"l"}', "{}"]);
    await draw(500, 281);
    await pass(900);
    await draw(300, 169);
    await pass(900);
    expect(wishes()).toHaveLength(2);
    await pass(100);
    expect(wishes()).toEqual(['{"encodingId":"l"}', "{}", '{"encodingId":"l"}']);
    // Hidden behind the lights it is no smaller.
    await draw(0, 0);
    await pass(5_000);
    await playback.act(() => browser.float(video));
    expect(wishes().slice(3)).toEqual(["{}"]);
  });

  it("knows across sessions why there is no picture, unless the relay is another", async () => {
    await watch();
    await quality(undefined, "link");
    await pass(1_000);
    await playback.act(() => playback.now.press());
    await playback.act(() => playback.now.press());
    await pass(1_000);
    expect([line(), playback.now.pictured]).toEqual(["Picture paused: your network is slow", false]);
    browser.link = undefined;
    await playback.act(() => playback.now.press());
    await playback.act(() => playback.now.press());
    await pass(1_000);
    expect([playback.now.picture, playback.now.pictured]).toEqual([undefined, true]);
  });

  it("wishes it again of a new session, and closes what it heard of the old one", async () => {
    await watch();
    await playback.act(() => playback.now.picture!.choose("sound"));
    await pass(1_000);
    const former = feed();
    await playback.act(() => playback.now.press());
    expect(former.readyState).toBe(2);
    await playback.act(() => playback.now.press());
    await pass(10);
    expect([wishes(), feed().url, feed().readyState]).toEqual([
      ['{"video":false}', '{"video":false}'],
      "/session/events",
      1,
    ]);
  });
});
