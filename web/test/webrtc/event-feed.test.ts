import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { EventFeed } from "../../src/webrtc/event-feed";
import { FakeFeed } from "./feed";

describe("event feed", () => {
  let heard: string[];
  let lost: number;
  let feed: EventFeed;
  beforeEach(() => {
    vi.useFakeTimers();
    FakeFeed.all = [];
    heard = [];
    lost = 0;
    feed = new EventFeed(
      { quality: (data) => heard.push(data) },
      () => (lost += 1),
      (url) => new FakeFeed(url),
    );
  });
  afterEach(() => void vi.useRealTimers());
  const latest = () => FakeFeed.all.at(-1)!;

  it("hears one address at a time", () => {
    feed.open("/1");
    feed.open("/1");
    expect(FakeFeed.all).toHaveLength(1);
    latest().say("quality", "a");
    latest().say("other", "b");
    feed.open("/2");
    expect([FakeFeed.all[0]!.readyState, latest().url]).toEqual([2, "/2"]);
    FakeFeed.all[0]!.say("quality", "late");
    latest().say("quality", "c");
    feed.open(undefined);
    expect(latest().readyState).toBe(2);
    expect(heard).toEqual(["a", "c"]);
  });

  it("leaves it to the browser to connect again", () => {
    feed.open("/1");
    latest().fail(0);
    vi.advanceTimersByTime(120_000);
    expect([FakeFeed.all.length, lost]).toEqual([1, 0]);
  });

  it("asks again after a refusal, ever more slowly, until it is closed", () => {
    feed.open("/1");
    latest().fail(2);
    expect(lost).toBe(1);
    vi.advanceTimersByTime(5_000);
    expect(FakeFeed.all).toHaveLength(2);
    latest().fail(2);
    vi.advanceTimersByTime(9_999);
    expect(FakeFeed.all).toHaveLength(2);
    vi.advanceTimersByTime(1);
    expect(FakeFeed.all).toHaveLength(3);
    latest().say("quality", "a");
    latest().fail(2);
    vi.advanceTimersByTime(5_000);
    expect(FakeFeed.all).toHaveLength(4);
    latest().fail(2);
    feed.close();
    vi.advanceTimersByTime(120_000);
    expect(FakeFeed.all).toHaveLength(4);
  });
});
