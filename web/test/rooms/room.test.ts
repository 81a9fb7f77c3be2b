import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Message } from "../../src/api/types";
import { Room, type RoomView } from "../../src/rooms/room";

class FakeSocket {
  static all: FakeSocket[] = [];
  readyState = 1;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: (() => void) | null = null;
  sent: { type: string; author: string; text: string; nonce: string }[] = [];
  constructor() {
    FakeSocket.all.push(this);
  }
  send(data: string) {
    this.sent.push(JSON.parse(data));
  }
  close() {
    this.readyState = 3;
    this.onclose?.();
  }
  hear(event: unknown) {
    this.onmessage?.({ data: typeof event === "string" ? event : JSON.stringify(event) });
  }
}

const message = (id: string, text = id): Message => ({
  id,
  author: "ana",
  text,
  zone: "stage",
  sent_at: "2026-11-22T12:00:00.000Z",
});
const welcome = (...history: Message[]) => ({ type: "welcome", zone: "camping", history, present: 2 });

describe("room", () => {
  let view: RoomView;
  let returns: number;
  let room: Room;
  const socket = () => FakeSocket.all.at(-1)!;

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("location", { protocol: "http:", host: "relay:8080" });
    FakeSocket.all = [];
    returns = 0;
    room = new Room(
      "lobby",
      { onView: (next) => (view = next), onStreams: () => undefined, onReturn: () => (returns += 1) },
      () => new FakeSocket() as unknown as WebSocket,
    );
  });
  afterEach(() => {
    room.close();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("shows a message once, however often it is told", () => {
    socket().hear(welcome(message("1"), message("2")));
    socket().hear({ type: "message", message: message("2") });
    socket().hear({ type: "message", message: message("3") });
    expect(view.messages.map((one) => one.id)).toEqual(["1", "2", "3"]);
  });

  it("marks what only this relay has stored, until another one has it", () => {
    socket().hear(welcome());
    socket().hear({ type: "message", message: message("1") });
    socket().hear({ type: "said", nonce: "n", id: "1", saved: "here" });
    expect([...view.unsaved]).toEqual(["1"]);
    socket().hear({ type: "saved", id: "1" });
    expect([...view.unsaved]).toEqual([]);
    socket().hear({ type: "said", nonce: "m", id: "2", saved: "mesh" });
    expect([...view.unsaved]).toEqual([]);
  });

  it("keeps every announcement once and knows which came while it was open", () => {
    const shown = () => view.announcements.map((one) => one.id);
    socket().hear({ ...welcome(), announcements: [message("a"), message("b")] });
    expect([shown(), [...view.heard]]).toEqual([["a", "b"], []]);
    socket().hear({ type: "announcement", message: message("c") });
    socket().hear({ type: "announcement", message: message("c") });
    expect([shown(), [...view.heard]]).toEqual([["a", "b", "c"], ["c"]]);
    socket().close();
    vi.advanceTimersByTime(500);
    socket().hear({ ...welcome(), announcements: ["a", "b", "c", "d"].map((id) => message(id)) });
    expect([shown(), [...view.heard]]).toEqual([
      ["a", "b", "c", "d"],
      ["c", "d"],
    ]);
  });

  it("sends again under the same nonce until the relay has it", () => {
    socket().hear(welcome());
    expect(room.say("ana", "  hello ")).toBe(true);
    const first = socket().sent[0]!;
    expect(first).toMatchObject({ type: "say", author: "ana", text: "hello" });
    socket().close();
    expect(view.online).toBe(false);
    vi.advanceTimersByTime(500);
    socket().hear(welcome());
    expect(socket().sent).toEqual([first]);
    expect(returns).toBe(1);
    socket().hear({ type: "said", nonce: first.nonce, id: "9" });
    socket().hear({ type: "message", message: message("9", "hello") });
    expect(view.pending).toEqual([]);
    expect(view.messages).toHaveLength(1);
  });

  it("does not mind which of said and message comes first", () => {
    socket().hear(welcome());
    room.say("ana", "hello");
    socket().hear({ type: "message", message: message("9", "hello") });
    socket().hear({ type: "said", nonce: socket().sent[0]!.nonce, id: "9" });
    expect(view.pending).toEqual([]);
  });

  it("keeps the relay's order after a cut and what the relay no longer tells", () => {
    socket().hear(welcome(message("1"), message("2")));
    socket().hear({ type: "message", message: message("4") });
    socket().close();
    vi.advanceTimersByTime(500);
    socket().hear(welcome(message("2"), message("3"), message("4")));
    expect(view.messages.map((one) => one.id)).toEqual(["1", "2", "3", "4"]);
  });

  it("says why a message was refused and lets go of it", () => {
    socket().hear(welcome());
    room.say("ana", "x");
    const { nonce } = socket().sent[0]!;
    socket().hear({ type: "refused", nonce, reason: "too fast" });
    expect(view.pending[0]!.refused).toBe("too fast");
    room.forget(nonce);
    expect(view.pending).toEqual([]);
  });

  it("says again by itself and in order what was said too fast", () => {
    socket().hear(welcome());
    for (const text of ["one", "two"]) room.say("ana", text);
    const [one, two] = socket().sent;
    for (const { nonce } of [one!, two!])
      socket().hear({ type: "refused", nonce, reason: "too fast", retry_after_ms: 2_500 });
    expect(view.pending.map((pending) => [pending.refused, pending.again])).toEqual([
      [undefined, Date.now() + 2_500],
      [undefined, Date.now() + 2_500],
    ]);
    // What is said meanwhile goes behind it.
    vi.advanceTimersByTime(1_000);
    room.say("ana", "three");
    vi.advanceTimersByTime(1_499);
    expect(socket().sent).toHaveLength(2);
    vi.advanceTimersByTime(1);
    expect(socket().sent.slice(2)).toEqual([one]);
    socket().hear({ type: "said", nonce: one!.nonce, id: "1" });
    socket().hear({ type: "message", message: message("1", "one") });
    vi.advanceTimersByTime(250);
    expect(socket().sent.slice(3)).toEqual([two]);
    socket().hear({ type: "refused", nonce: two!.nonce, reason: "too fast", retry_after_ms: 30_000 });
    // Waiting that long is no dead connection.
    vi.advanceTimersByTime(29_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect(view.pending.map((pending) => pending.text)).toEqual(["two", "three"]);
    vi.advanceTimersByTime(1_000);
    socket().hear({ type: "said", nonce: two!.nonce, id: "2" });
    vi.advanceTimersByTime(250);
    expect(
      socket()
        .sent.slice(4)
        .map((said) => said.text),
    ).toEqual(["two", "three"]);
  });

  it("bounds what waits and what is shown", () => {
    for (let i = 0; i < 20; i++) expect(room.say("ana", "x")).toBe(true);
    expect(room.say("ana", "x")).toBe(false);
    socket().hear(welcome(...Array.from({ length: 700 }, (_, i) => message(String(i)))));
    expect(view.messages).toHaveLength(500);
    expect(view.messages.at(-1)!.id).toBe("699");
  });

  it("survives anything on the wire", () => {
    for (const junk of ["", "{", "null", "7", '{"type":"news"}', "[]"]) socket().hear(junk);
    socket().hear(welcome(message("1")));
    expect(view.messages).toHaveLength(1);
  });

  it("takes a relay that does not answer for a dead connection", () => {
    socket().hear(welcome());
    room.say("ana", "hello");
    const { nonce } = socket().sent[0]!;
    vi.advanceTimersByTime(8_000);
    expect(FakeSocket.all).toHaveLength(2);
    socket().hear(welcome());
    expect(socket().sent[0]!.nonce).toBe(nonce);
  });

  it("cuts a long text between characters", () => {
    socket().hear(welcome());
    room.say("ana", "🎪".repeat(5_000));
    expect([...socket().sent[0]!.text]).toHaveLength(4_000);
  });
});
