import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SharedFile } from "../../src/api/types";
import { giveFile, hasPreview, STALL_MS, STORE_MS, size } from "../../src/rooms/files";

class FakeRequest {
  static last: FakeRequest;
  upload: { onprogress?: (event: { lengthComputable: boolean; loaded: number; total: number }) => void } = {};
  onload?: () => void;
  onerror?: () => void;
  onabort?: () => void;
  status = 0;
  responseText = "";
  url = "";
  headers: Record<string, string> = {};
  constructor() {
    FakeRequest.last = this;
  }
  open(_method: string, url: string) {
    this.url = url;
  }
  setRequestHeader(name: string, value: string) {
    this.headers[name] = value;
  }
  send() {}
  retryAfter: string | null = null;
  getResponseHeader() {
    return this.retryAfter;
  }
  abort() {
    this.onabort?.();
  }
}

const file = (name: string) => ({ name, type: "image/png", size: 10 }) as File;

describe("files", () => {
  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("XMLHttpRequest", FakeRequest);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("says how far a file has come, under an escaped name", async () => {
    const shares: number[] = [];
    const giving = giveFile("lobby", file("a&b=c.png"), "Ana", "secret-token", (share) => shares.push(share));
    const request = FakeRequest.last;
    expect(request.url).toBe("/api/v1/rooms/lobby/files?name=a%26b%3Dc.png&from=Ana");
    expect(request.headers).toEqual({ "content-type": "image/png", authorization: "Bearer secret-token" });
    request.upload.onprogress!({ lengthComputable: true, loaded: 5, total: 10 });
    request.status = 201;
    request.onload!();
    await giving.done;
    expect(shares).toEqual([0.5]);
  });

  it("tells what the relay says when it refuses", async () => {
    const giving = giveFile("lobby", file("a.png"), "Ana", undefined, () => undefined);
    FakeRequest.last.status = 507;
    FakeRequest.last.responseText = '{"title":"the disk is full: give a smaller file"}';
    FakeRequest.last.onload!();
    await expect(giving.done).rejects.toMatchObject({ status: 507, message: "The disk is full: give a smaller file." });
  });

  it("ends quietly when it is stopped", async () => {
    const giving = giveFile("lobby", file("a.png"), "Ana", undefined, () => undefined);
    giving.stop();
    await giving.done;
  });

  it("fails when nothing leaves any more, and waits longer for the relay's disk", async () => {
    const stalled = giveFile("lobby", file("a.png"), "Ana", undefined, () => undefined);
    const failed = expect(stalled.done).rejects.toMatchObject({ status: 0 });
    FakeRequest.last.upload.onprogress!({ lengthComputable: true, loaded: 5, total: 10 });
    vi.advanceTimersByTime(STALL_MS);
    await failed;
    const storing = giveFile("lobby", file("a.png"), "Ana", undefined, () => undefined);
    FakeRequest.last.upload.onprogress!({ lengthComputable: true, loaded: 10, total: 10 });
    vi.advanceTimersByTime(STORE_MS - 1);
    FakeRequest.last.status = 201;
    FakeRequest.last.onload!();
    await storing.done;
  });

  it("hands on when the relay asks to be asked again", async () => {
    const giving = giveFile("lobby", file("a.png"), "Ana", undefined, () => undefined);
    Object.assign(FakeRequest.last, { status: 503, responseText: "<html>", retryAfter: "5" });
    FakeRequest.last.onload!();
    await expect(giving.done).rejects.toMatchObject({
      status: 503,
      retryAfterMs: 5_000,
      message: "The relay did not take the file.",
    });
  });

  it("previews small pictures that are here, and nothing else", () => {
    const one: SharedFile = {
      id: "1",
      name: "a.png",
      bytes: 1000,
      media_type: "image/png",
      from: "Ana",
      zone: "stage",
      sent_at: "",
      here: 1000,
    };
    expect(hasPreview(one)).toBe(true);
    expect(hasPreview({ ...one, here: 999 })).toBe(false);
    expect(hasPreview({ ...one, bytes: 2e6, here: 2e6 })).toBe(false);
    expect(hasPreview({ ...one, media_type: "image/svg+xml" })).toBe(false);
  });

  it("says sizes as people do", () => {
    expect([0, 999, 1000, 1234, 99_999, 999_600, 5_242_883, 2_000_000_000].map(size)).toEqual([
      "0 bytes",
      "999 bytes",
      "1.0 kB",
      "1.2 kB",
      "100 kB",
      "1.0 MB",
      "5.2 MB",
      "2.0 GB",
    ]);
  });
});
