import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { giveFile, size } from "../src/files";

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
  abort() {
    this.onabort?.();
  }
}

const file = (name: string) => ({ name, type: "image/png", size: 10 }) as File;

describe("files", () => {
  beforeEach(() => vi.stubGlobal("XMLHttpRequest", FakeRequest));
  afterEach(() => vi.unstubAllGlobals());

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

  it("says sizes as people do", () => {
    expect([0, 999, 1000, 1234, 99_999, 999_600, 5_242_883, 2_000_000_000].map(size)).toEqual(
      ["0 bytes", "999 bytes", "1.0 kB", "1.2 kB", "100 kB", "1.0 MB", "5.2 MB", "2.0 GB"]);
  });
});
