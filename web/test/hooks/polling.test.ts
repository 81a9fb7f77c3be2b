import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { usePolled } from "../../src/hooks/polling";
import { stage } from "./stage";

describe("polling", () => {
  beforeEach(() => {
    vi.useFakeTimers();
    vi.spyOn(Math, "random").mockReturnValue(0.5);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  it("keeps the last answer when one fails, and says so", async () => {
    const read = vi.fn().mockResolvedValueOnce(1).mockRejectedValueOnce(new Error()).mockResolvedValueOnce(3);
    const polled = await stage(() => usePolled<number>(read, 1_000), undefined);
    expect([polled.now.value, polled.now.fault]).toEqual([1, false]);
    await polled.act(() => vi.advanceTimersByTimeAsync(1_000));
    expect([polled.now.value, polled.now.fault]).toEqual([1, true]);
    await polled.act(() => vi.advanceTimersByTimeAsync(1_000));
    expect([polled.now.value, polled.now.fault]).toEqual([3, false]);
    await polled.end();
  });

  it("asks at once when told to, and never again once its page is gone", async () => {
    const read = vi.fn().mockResolvedValue(1);
    const polled = await stage(() => usePolled<number>(read, 1_000), undefined);
    await polled.act(() => polled.now.again());
    expect(read).toHaveBeenCalledTimes(2);
    await polled.end();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(read).toHaveBeenCalledTimes(2);
  });
});
