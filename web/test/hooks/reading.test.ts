import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { unreadAfter, useReading } from "../../src/hooks/reading";
import type { RoomView } from "../../src/rooms/room";
import { type Staged, stage } from "./stage";

type View = Pick<RoomView, "messages" | "pending">;
const view = (...ids: string[]) => ({ messages: ids.map((id) => ({ id })), pending: [] }) as unknown as View;

describe("reading", () => {
  const log = { scrollTop: 0, scrollHeight: 1_000, clientHeight: 300 };
  let reading: Staged<View, ReturnType<typeof useReading>>;
  let show: (isIntersecting: boolean) => Promise<void>;

  beforeEach(async () => {
    vi.stubGlobal("document", Object.assign(new EventTarget(), { visibilityState: "visible" }));
    vi.stubGlobal(
      "IntersectionObserver",
      class {
        constructor(tell: (entries: { isIntersecting: boolean }[]) => void) {
          show = (isIntersecting) => reading.act(() => tell([{ isIntersecting }]));
        }
        observe() {}
        disconnect() {}
      },
    );
    log.scrollTop = 0;
    const scrolls = { current: log as unknown as HTMLElement };
    reading = await stage((latest: View) => useReading(scrolls, latest), view("a", "b"));
    await show(true);
  });
  afterEach(async () => {
    await reading.end();
    vi.unstubAllGlobals();
  });

  const scroll = (to: number) =>
    reading.act(() => {
      log.scrollTop = to;
      reading.now.look();
    });

  it("begins with what is there, and at its end", () => {
    expect([reading.now.unread, log.scrollTop]).toEqual([0, 1_000]);
  });

  it("follows while somebody reads along", async () => {
    await scroll(680);
    log.scrollHeight = 1_100;
    await reading.set(view("a", "b", "c"));
    expect([reading.now.unread, log.scrollTop]).toEqual([0, 1_100]);
    log.scrollHeight = 1_000;
  });

  it("counts what comes while they read further up, until they are back at the end", async () => {
    await scroll(100);
    await reading.set(view("a", "b", "c", "d"));
    expect([reading.now.unread, log.scrollTop]).toEqual([2, 100]);
    await scroll(700);
    expect(reading.now.unread).toBe(0);
  });

  it("counts what comes while the log is out of sight, and nothing once it is gone to", async () => {
    await show(false);
    await reading.set(view("a", "b", "c"));
    // The log follows by itself, which is no reading.
    await reading.act(() => reading.now.look());
    expect(reading.now.unread).toBe(1);
    await reading.act(() => reading.now.toEnd());
    expect([reading.now.unread, log.scrollTop]).toEqual([0, 1_000]);
  });

  it("counts what comes while the page is hidden, until it is back", async () => {
    const page = document as { visibilityState: string } & EventTarget;
    page.visibilityState = "hidden";
    await reading.set(view("a", "b", "c"));
    expect(reading.now.unread).toBe(1);
    page.visibilityState = "visible";
    await reading.act(() => page.dispatchEvent(new Event("visibilitychange")));
    expect(reading.now.unread).toBe(0);
  });

  it("follows what somebody says themselves", async () => {
    await scroll(100);
    reading.now.follow();
    await reading.set(view("a", "b", "c"));
    expect(log.scrollTop).toBe(1_000);
  });

  it("has nothing unread after a message that is no more", () => {
    expect(unreadAfter("gone", [{ id: "a" }])).toBe(0);
    expect(unreadAfter(undefined, [{ id: "a" }])).toBe(0);
    expect(unreadAfter("a", [{ id: "a" }, { id: "b" }])).toBe(1);
  });
});
