import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Publication, usePublication } from "../../src/hooks/publication";
import { type FakeBrowser, FakeMedia, fakeBrowser } from "./browser";
import { type Staged, stage } from "./stage";

/** A track of an input, until it is stopped or pulled out. */
class FakeTrack extends EventTarget {
  kind = "audio";
  label = "Desk";
  readyState = "live";
  stop() {
    this.readyState = "ended";
  }
}

class FakeInput extends FakeMedia {
  track = new FakeTrack();
  override tracks: unknown[] = [this.track];
  getAudioTracks() {
    return [this.track];
  }
}

describe("publication", () => {
  let browser: FakeBrowser;
  let opened: FakeInput[];
  let publication: Staged<undefined, Publication>;

  async function open(search: string) {
    vi.stubGlobal("location", { search, hostname: "127.0.0.1", port: "" });
    publication = await stage(() => usePublication(), undefined);
    await pass(10);
  }
  const pass = (ms: number) => publication.act(() => vi.advanceTimersByTimeAsync(ms));
  const act = async (what: (now: Publication) => void) => {
    await publication.act(() => what(publication.now));
    await pass(10);
  };

  beforeEach(() => {
    vi.useFakeTimers();
    browser = fakeBrowser();
    opened = [];
    Object.assign(window, { isSecureContext: true });
    const give = async () => {
      opened.push(new FakeInput());
      return opened.at(-1);
    };
    const mediaDevices = { enumerateDevices: async () => [], getUserMedia: give, getDisplayMedia: give };
    vi.stubGlobal("navigator", { mediaDevices });
  });
  afterEach(async () => {
    await publication.end();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("goes on air under the name given, and leaves the input when it stops", async () => {
    await open("");
    await act((now) => now.change({ name: "forest" }));
    await act((now) => now.start());
    expect([browser.asked, publication.now.state.phase]).toEqual([["POST /whip/forest"], "connected"]);
    await act((now) => now.stop());
    expect(browser.asked.at(-1)).toBe("DELETE /session");
    expect([publication.now.publisher, publication.now.state.phase]).toEqual([undefined, "idle"]);
    expect([opened[0]?.track.readyState, publication.now.capture.media]).toEqual(["ended", undefined]);
  });

  it("does not start under a name the relay would refuse", async () => {
    await open("?auto=1&stream=Main Stage");
    await act((now) => now.start());
    expect(publication.now.nameFault).toBeDefined();
    expect([opened.length, browser.asked]).toEqual([0, []]);
  });

  it("starts by itself when the address says so, but a screen needs a click", async () => {
    await open("?auto=1&stream=forest&source=mic");
    expect(browser.asked).toEqual(["POST /whip/forest"]);
    await publication.end();
    browser.asked = [];
    await open("?auto=1&stream=forest&source=screen");
    expect(browser.asked).toEqual([]);
    await act((now) => now.start());
    expect(browser.asked).toEqual(["POST /whip/forest"]);
  });

  it("takes the input that is checked already on air, or the other one that was chosen meanwhile", async () => {
    await open("");
    await act((now) => now.check());
    await act((now) => now.change({ audio: "other" }));
    expect(opened.map((input) => input.track.readyState)).toEqual(["ended", "live"]);
    await act((now) => now.change({ name: "forest" }));
    await act((now) => now.start());
    expect(opened).toHaveLength(2);
    await act((now) => now.change({ audio: "third" }));
    expect(opened).toHaveLength(2);
  });

  it("opens an input anew that was unplugged, and says that it was", async () => {
    await open("");
    await act((now) => now.check());
    opened[0]!.track.stop();
    await act(() => opened[0]!.track.dispatchEvent(new Event("ended")));
    expect(publication.now.capture.fault).toContain("unplugged");
    await act((now) => now.start());
    expect(opened).toHaveLength(2);
    expect(publication.now.capture.fault).toBeUndefined();
  });

  it("says why an input does not open, and stays off air", async () => {
    await open("");
    navigator.mediaDevices.getUserMedia = async () => {
      throw new DOMException("", "NotReadableError");
    };
    await act((now) => now.start());
    expect(publication.now.capture.fault).toContain("Another program");
    expect([publication.now.publisher, browser.asked]).toEqual([undefined, []]);
  });

  it("ends with the page, and goes on when it comes back from the browser's cache", async () => {
    await open("");
    await act((now) => now.start());
    await act(() => browser.fire("pagehide"));
    expect(browser.asked.at(-1)).toBe("DELETE /session leaving");
    await act(() => browser.fire("pageshow", { persisted: true }));
    expect(browser.asked.at(-1)).toBe("POST /whip/main-stage");
  });
});
