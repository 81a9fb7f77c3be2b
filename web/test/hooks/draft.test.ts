import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Draft, useDraft } from "../../src/hooks/draft";
import type { Pending, Room } from "../../src/rooms/room";
import { type Staged, stage } from "./stage";

describe("draft", () => {
  const say = vi.fn();
  const forget = vi.fn();
  const onNameless = vi.fn();
  const onSay = vi.fn();
  let draft: Staged<undefined, Draft>;

  beforeEach(async () => {
    vi.resetAllMocks();
    say.mockReturnValue(true);
    const room = { say, forget } as unknown as Room;
    draft = await stage(() => useDraft(room, { onNameless, onSay }), undefined);
  });
  afterEach(() => draft.end());

  const write = (author: string, text: string) =>
    draft.act(() => {
      draft.now.setAuthor(author);
      draft.now.setText(text);
    });

  it("asks for a name first, and for nothing if there is nothing to say", async () => {
    await write("  ", " ");
    await draft.act(() => draft.now.say());
    expect([draft.now.hint, onNameless.mock.calls.length]).toEqual([undefined, 0]);
    await write("  ", "hello");
    await draft.act(() => draft.now.say());
    expect([draft.now.hint, draft.now.text]).toEqual(["First say who you are.", "hello"]);
    expect([onNameless.mock.calls.length, say.mock.calls.length]).toEqual([1, 0]);
  });

  it("is empty once the room has it, and stays while the room takes no more", async () => {
    say.mockReturnValueOnce(false);
    await write("Ana", "hello");
    await draft.act(() => draft.now.say());
    expect([draft.now.text, draft.now.hint]).toEqual(["hello", "Many messages are still waiting for the relay."]);
    await draft.act(() => draft.now.say());
    expect([draft.now.text, draft.now.hint]).toEqual(["", undefined]);
    expect(say).toHaveBeenLastCalledWith("Ana", "hello");
    expect(onSay).toHaveBeenCalledTimes(2);
  });

  it("takes a refused message back", async () => {
    await draft.act(() => draft.now.edit({ text: "too long", nonce: "n" } as Pending));
    expect(draft.now.text).toBe("too long");
    expect(forget).toHaveBeenCalledWith("n");
  });
});
