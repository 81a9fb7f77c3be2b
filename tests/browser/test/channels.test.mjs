// Data channels of a browser: a room on a session of channels alone, on one that publishes and on one that plays.
import assert from "node:assert/strict";
import { test } from "node:test";
import { festival } from "../src/festival.mjs";
import { until } from "../src/until.mjs";

const { relays, browser } = festival("stage");

/** Runs in the page: a session at this path with a channel, what comes on it, and how to say something. */
async function open({ path, label, media }) {
  const peer = new RTCPeerConnection();
  const channel = peer.createDataChannel(label);
  const events = [];
  channel.onmessage = ({ data }) => events.push(JSON.parse(data));
  if (media === "publish") {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    for (const track of stream.getTracks()) peer.addTransceiver(track, { direction: "sendonly" });
  }
  if (media === "play") peer.addTransceiver("audio", { direction: "recvonly" });
  await peer.setLocalDescription();
  const headers = { "content-type": "application/sdp" };
  const answer = await fetch(path, { method: "POST", headers, body: peer.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  const until = async (what, ready) => {
    const end = performance.now() + 20_000;
    while (performance.now() < end) {
      const found = ready();
      if (found) return found;
      await new Promise((done) => setTimeout(done, 20));
    }
    throw new Error(`${what}: not in 20 s; ${JSON.stringify(events).slice(0, 1000)}`);
  };
  window.rooms ??= {};
  window.rooms[path] = { peer, channel, events, until };
  await until("the welcome", () => events.find((event) => event.type === "welcome"));
  return events.map((event) => event.type);
}

/** Runs in the page: says something there; gives the id that it got. */
async function say({ path, text, nonce }) {
  const { channel, events, until } = window.rooms[path];
  channel.send(JSON.stringify({ type: "say", author: "Ada", text, nonce }));
  const said = await until(`${nonce} is said`, () => events.find((one) => one.type === "said" && one.nonce === nonce));
  return said.id;
}

/** Runs in the page: the ids of the messages with this text that came there. */
async function heard({ path, text }) {
  const { events, until } = window.rooms[path];
  const found = () => events.filter((one) => one.type === "message" && one.message.text === text);
  await until(`${text} is heard`, () => found().length > 0);
  return found().map((one) => one.message.id);
}

test("a_browser_chats_over_every_kind_of_session_and_once", async (t) => {
  const page = await browser.open(relays[0].url("/publish"));
  t.after(() => page.context().close());
  const label = "room/1/lobby";
  const ways = [
    { path: "/whep/-", label },
    { path: "/whip/main-stage", label, media: "publish" },
    { path: "/whep/main-stage", label, media: "play" },
  ];
  for (const way of ways) {
    const types = await page.evaluate(open, way);
    assert.equal(types[0], "welcome", way.path);
    if (way.media === "publish")
      await until("the stream is live", 20_000, async () => (await relays[0].streams()).length > 0);
  }
  for (const { path } of ways) {
    const text = `said on ${path}`;
    const id = await page.evaluate(say, { path, text, nonce: path });
    // The same again, on every way: it is known.
    for (const other of ways) {
      assert.equal(await page.evaluate(say, { path: other.path, text, nonce: path }), id);
      assert.deepEqual(await page.evaluate(heard, { path: other.path, text }), [id]);
    }
  }
  assert.equal((await relays[0].get("/api/v1/rooms/lobby/messages")).length, 3);
});

test("a_message_of_256_kib_ends_its_channel_and_no_other", async (t) => {
  const page = await browser.open(relays[0].url("/"));
  t.after(() => page.context().close());
  const path = "/whep/-";
  await page.evaluate(open, { path, label: "room/1/crew" });
  const states = await page.evaluate(async () => {
    const { peer, channel, until } = window.rooms["/whep/-"];
    const states = [];
    for (const label of ["room/1/crew", "room/2/crew"]) {
      const other = peer.createDataChannel(label);
      await until("it is open", () => other.readyState === "open");
      other.send(new Uint8Array(256 * 1024));
      if (label === "room/1/crew") await until("it is closed", () => other.readyState === "closed");
      states.push(other.readyState);
    }
    return [...states, channel.readyState];
  });
  assert.deepEqual(states, ["closed", "open", "open"]);
  assert.ok(await page.evaluate(say, { path, text: "unhurt", nonce: "n" }));
});
