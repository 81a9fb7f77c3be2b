import { afterEach, describe, expect, it, vi } from "vitest";
import { useVolume, volumeOf } from "../../src/hooks/volume";
import { FakeElement } from "./browser";
import { stage } from "./stage";

describe("volume", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("is all of it unless a volume was kept", () => {
    expect(["0", "0.3", "1"].map(volumeOf)).toEqual([0, 0.3, 1]);
    expect([undefined, "", "loud", "-1", "2"].map(volumeOf)).toEqual([1, 0, 1, 1, 1]);
  });

  it("is kept, and moving it makes it heard", async () => {
    const kept = new Map<string, string>();
    vi.stubGlobal("localStorage", {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
    });
    const audio = new FakeElement();
    const volume = await stage(() => useVolume({ current: audio as unknown as HTMLAudioElement }), undefined);
    await volume.act(() => volume.now.toggle());
    expect([audio.volume, audio.muted]).toEqual([1, true]);
    await volume.act(() => volume.now.change(0.3));
    expect([audio.volume, audio.muted, kept.get("peddlenet.volume")]).toEqual([0.3, false, "0.3"]);
    await volume.end();
  });
});
