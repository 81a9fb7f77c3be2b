import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { askedStream, type Festival, useFestival } from "../../src/hooks/festival";
import { type FakeBrowser, fakeBrowser } from "./browser";
import { type Staged, stage } from "./stage";

const stream = (name: string) => ({ name, tracks: [] });

class FakeSocket {
  static open: FakeSocket[] = [];
  static rooms: string[] = [];
  readyState = 1;
  onmessage?: (event: { data: string }) => void;
  onclose?: () => void;
  readonly room: string;
  constructor(url: string) {
    this.room = /rooms\/(.*)\/ws/.exec(url)![1]!;
    FakeSocket.open.push(this);
    FakeSocket.rooms.push(this.room);
  }
  send() {}
  close() {
    FakeSocket.open = FakeSocket.open.filter((one) => one !== this);
  }
  hear(event: object) {
    this.onmessage?.({ data: JSON.stringify(event) });
  }
}

describe("festival", () => {
  let browser: FakeBrowser;
  let live: string[];
  let festival: Staged<undefined, Festival>;

  const open = async (search = "") => {
    vi.stubGlobal("location", { search, href: `http://relay/${search}`, host: "relay", protocol: "http:" });
    festival = await stage(() => useFestival(), undefined);
    await pass(10);
  };
  const pass = (ms: number) => festival.act(() => vi.advanceTimersByTimeAsync(ms));
  const rooms = () => FakeSocket.open.map((socket) => socket.room);
  const welcome = { type: "welcome", zone: "stage", history: [], present: 1 };

  beforeEach(() => {
    vi.useFakeTimers();
    browser = fakeBrowser();
    live = [];
    FakeSocket.open = [];
    FakeSocket.rooms = [];
    vi.stubGlobal("WebSocket", FakeSocket);
    vi.stubGlobal("document", Object.assign(new EventTarget(), { visibilityState: "visible" }));
    vi.stubGlobal("history", { replaceState: vi.fn() });
    vi.stubGlobal("scrollTo", vi.fn());
    vi.stubGlobal("fetch", async (url: string) => {
      browser.asked.push(url);
      if (url === "/version") return Response.json({ zone: "stage" });
      if (url === "/api/v1/streams") return Response.json(live.map(stream));
      return new Response("{}", { status: 404 });
    });
  });
  afterEach(async () => {
    await festival.end();
    expect(rooms()).toEqual([]);
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("takes from the address only what can be a stream's name", async () => {
    await open("?stream=main-stage/commentary");
    expect([festival.now.chosen, rooms()]).toEqual(["main-stage/commentary", ["main-stage"]]);
    expect(askedStream("?stream=<script>")).toBeUndefined();
  });

  it("chooses the only stream there is, and never opens another room before", async () => {
    live = ["forest"];
    await open();
    expect([festival.now.chosen, festival.now.roomName, rooms()]).toEqual(["forest", "forest", ["forest"]]);
    expect(FakeSocket.rooms).toEqual(["forest"]);
  });

  it("waits in the lobby while there are none or several, and moves to the room of the one that is tapped", async () => {
    live = ["forest", "main-stage"];
    await open();
    expect([festival.now.chosen, rooms()]).toEqual([undefined, ["lobby"]]);
    await festival.act(() => festival.now.choose("main-stage/commentary"));
    expect([festival.now.chosen, rooms()]).toEqual(["main-stage/commentary", ["main-stage"]]);
    expect(history.replaceState).toHaveBeenCalledWith(null, "", "/?stream=main-stage/commentary");
  });

  it("believes the socket until it asks again itself", async () => {
    live = ["forest", "main-stage"];
    await open();
    await festival.act(() => FakeSocket.open[0]!.hear({ type: "streams", streams: [] }));
    expect(festival.now.streams).toEqual([]);
    await pass(12_000);
    expect(festival.now.streams).toHaveLength(2);
  });

  it("counts when the relay comes back, and asks it at once", async () => {
    await open("?stream=forest");
    const socket = FakeSocket.open[0]!;
    await festival.act(() => socket.hear(welcome));
    expect([festival.now.returns, festival.now.view.online]).toEqual([0, true]);
    await festival.act(() => socket.close());
    await festival.act(() => socket.onclose?.());
    expect(festival.now.view.online).toBe(false);
    await pass(500);
    browser.asked = [];
    await festival.act(() => FakeSocket.open[0]!.hear(welcome));
    expect([festival.now.returns, browser.asked]).toEqual([1, ["/api/v1/streams"]]);
  });
});
