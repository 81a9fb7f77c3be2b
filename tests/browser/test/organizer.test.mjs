// What an organizer tells everybody, and what a room's people give each other, two hops away.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { festival } from "../src/festival.mjs";
import { textOf } from "../src/people.mjs";
import { until } from "../src/until.mjs";

const { relays, browser } = festival("stage", "food", "camping");

async function open(t, relay, path) {
  const page = await browser.open(relay.url(path));
  t.after(() => page.context().close());
  await until("the page knows its zone", 10_000, async () => (await textOf(page, ".bar")).includes(relay.zone));
  return page;
}

const announced = (page, text) =>
  until(`${text} is shown`, 10_000, async () => (await textOf(page, ".announcements")).includes(text), 10);

test("what_the_organizer_announces_is_on_every_page_until_it_is_put_away", async (t) => {
  const listener = await open(t, relays[2], "/");
  const publisher = await open(t, relays[1], "/publish");
  const organizer = await open(t, relays[0], "/organizer");
  await organizer.fill("input[name=organizer]", "Safety");
  await organizer.fill("textarea[name=announcement]", "Storm at nine: leave the towers");
  await organizer.click("form.announce button[type=submit]");
  await until("whom it reaches is shown first", 5_000, async () => {
    const words = await textOf(organizer, ".announce");
    return ["every page of every zone", "stage", "food", "camping"].every((word) => words.includes(word));
  });
  assert.equal(await textOf(listener, ".announcements"), "", "nothing is sent before it is confirmed");
  await organizer.click(".announce button.go:not([disabled])");
  const start = performance.now();
  await announced(listener, "Storm at nine");
  t.diagnostic(`two hops away after ${Math.round(performance.now() - start)} ms`);
  await announced(publisher, "Storm at nine");
  await until("the organizer sees that it is sent", 5_000, async () =>
    (await textOf(organizer, ".announce h3")).includes("Sent"),
  );
  await listener.click(".announcements button");
  await until("it is put away", 5_000, async () => (await textOf(listener, ".announcements")) === "");
  await listener.reload();
  await until("the page is back", 10_000, async () => (await textOf(listener, ".bar")).includes("camping"));
  assert.equal(await textOf(listener, ".announcements"), "", "what was read comes back");
});

test("the_organizer_sees_what_the_festival_hangs_on", async (t) => {
  const organizer = await open(t, relays[0], "/organizer");
  await until("the weak relay is named", 10_000, async () =>
    // biome-ignore lint/performance/useDomNodeTextContent: what is hidden is not seen.
    (await organizer.evaluate(() => document.body.innerText)).includes("If the relay of food dies"),
  );
});

test("a_file_given_in_one_zone_is_taken_away_in_another_byte_for_byte", async (t) => {
  const [giver, taker] = [await open(t, relays[0], "/?stream=files"), await open(t, relays[2], "/?stream=files")];
  await until("files can be given", 10_000, () => giver.evaluate(() => document.querySelector("button.give") !== null));
  const body = randomBytes(3_000_000);
  const name = "plan \u202edeb\u202c für Sonntag.pdf";
  await giver.setInputFiles("input[type=file]", { name, mimeType: "application/pdf", buffer: body });
  await until("the other zone lists it", 15_000, () =>
    taker.evaluate(() => document.querySelector("a.shared-file") !== null),
  );
  const download = taker.waitForEvent("download");
  await taker.evaluate(() => document.querySelector("a.shared-file").click());
  const taken = await readFile(await (await download).path());
  const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
  assert.equal(taken.length, body.length);
  assert.equal(hash(taken), hash(body));
  assert.deepEqual(giver.faults.concat(taker.faults), []);
});
