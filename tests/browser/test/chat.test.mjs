// Chat on the pages: across zones, once, as text, and after a cut.
import assert from "node:assert/strict";
import { test } from "node:test";
import { festival } from "../src/festival.mjs";
import { said, say, textOf } from "../src/people.mjs";
import { until } from "../src/until.mjs";

const { relays, browser } = festival("stage", "food", "camping");

const room = (stream) => (stream ? `/?stream=${stream}` : "/");
const shows = (page, text) =>
  until(`the page shows ${text}`, 10_000, async () => (await said(page)).find((one) => one.text === text), 10);

async function pair(t, stream) {
  const pages = [];
  for (const relay of [relays[0], relays[2]]) {
    const page = await browser.open(relay.url(room(stream)));
    t.after(() => page.context().close());
    await until("the room is open", 10_000, async () => (await textOf(page, ".chat header")).includes("here"));
    pages.push(page);
  }
  return pages;
}

test("what_is_said_in_zone_a_shows_in_zone_c", async (t) => {
  const [ana, ben] = await pair(t, "hall");
  const start = performance.now();
  await say(ana, "Ana", "left gate is short now");
  const shown = await shows(ben, "left gate is short now");
  t.diagnostic(`shown two hops away ${Math.round(performance.now() - start)} ms after the first key`);
  assert.equal(shown.author, "Ana");
  await say(ben, "Ben", "coming");
  await shows(ana, "coming");
  await until(
    "both show both, once",
    5_000,
    async () => (await said(ana)).length === 2 && (await said(ben)).length === 2,
  );
});

test("markup_is_shown_as_text", async (t) => {
  const [ana, ben] = await pair(t, "markup");
  const texts = [
    "<img src=x onerror=window.hit=1>",
    "<script>window.hit=1</script>",
    "<b>bold</b> &amp; 'quotes'",
    "a\u202eb\u200bc 🎪",
  ];
  for (const text of texts) await say(ana, "<i>Eve</i>", text);
  for (const text of texts) {
    const shown = await shows(ben, text);
    assert.equal(shown.elements, 0, "the text became elements");
    // The relay may take signs out of a name; it never becomes markup.
    assert.match(shown.author, /Eve/);
  }
  assert.equal(await ben.evaluate(() => window.hit), undefined);
  assert.equal(await ana.evaluate(() => window.hit), undefined);
});

test("message_sent_while_the_relay_is_away_arrives_once", async (t) => {
  const [ana, ben] = await pair(t, "cut");
  await relays[0].kill();
  await until("the page notices", 10_000, async () => (await textOf(ana, ".chat header")).includes("no connection"));
  await say(ana, "Ana", "said in the dark");
  assert.match(await textOf(ana, ".pending"), /waiting for the relay/);
  await relays[0].restart();
  const start = performance.now();
  await until("accepted", 15_000, async () => (await said(ana)).length === 1);
  const accepted = Math.round(performance.now() - start);
  await until("it crosses to the other zone", 20_000, async () => (await said(ben)).length > 0);
  t.diagnostic(
    `accepted ${accepted} ms, in the other zone ${Math.round(performance.now() - start)} ms after the relay was back`,
  );
  assert.equal((await said(ben)).length, 1);
  // A restarted relay tells its neighbors: none of them sits out an idle timeout.
  assert.ok(performance.now() - start < 5_000, "the bridge took too long to come back");
});

test("history_is_there_for_who_comes_later", async (t) => {
  const [ana] = await pair(t, "later");
  for (const text of ["one", "two", "three"]) {
    await say(ana, "Ana", text);
    await shows(ana, text);
  }
  const late = await browser.open(relays[1].url(room("later")));
  t.after(() => late.context().close());
  await shows(late, "three");
  assert.deepEqual(
    (await said(late)).map((one) => one.text),
    ["one", "two", "three"],
  );
});

test("message_out_of_sight_raises_the_unread_pill", async (t) => {
  const [ana, ben] = await pair(t, "pill");
  await say(ana, "Ana", "first");
  await shows(ben, "first");
  await ben.setViewportSize({ width: 390, height: 300 });
  await ben.evaluate(() => scrollTo(0, 0));
  await until("the log is out of sight", 5_000, () =>
    ben.evaluate(() => document.querySelector(".log").getBoundingClientRect().top > innerHeight),
  );
  for (let i = 0; i < 2; i++) await say(ana, "Ana", `more ${i}`);
  await shows(ben, "more 1");
  assert.match(await textOf(ben, ".unread"), /^2 new messages/);
  await ben.click(".unread");
  await until("read", 5_000, async () => (await textOf(ben, ".unread")) === "");
});
