// What a page says when media does not fit the browser or does not get there, and pages behind a proxy.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Chromium } from "../src/browser.mjs";
import { goLive, holdBack, letThrough, listen, onAir, said, say, textOf } from "../src/people.mjs";
import { proxy } from "../src/proxy.mjs";
import { Relay } from "../src/relay.mjs";
import { until } from "../src/until.mjs";

let browser;
before(async () => (browser = await Chromium.launch()));
after(() => browser.close());

async function stage(t, ...more) {
  const relay = await Relay.start("stage", [], more);
  t.after(() => relay.stop());
  return relay;
}

test("doors_a_browser_that_lacks_the_codec_of_the_picture_says_so_and_plays_the_sound", async (t) => {
  const relay = await stage(t);
  const publisher = await browser.open(relay.url("/publish"), { codec: "VP8" });
  t.after(() => publisher.context().close());
  await goLive(publisher, { source: "camera" });
  const [whole, part] = [await browser.open(relay.url("/")), await browser.open(relay.url("/"), { codec: "VP9" })];
  for (const page of [whole, part]) t.after(() => page.context().close());
  await listen(whole);
  await listen(part);
  assert.equal(await textOf(whole, ".player .note"), "");
  assert.equal(await textOf(part, ".player .note"), "This browser cannot show VP8.");
  const { cannot_play } = await relay.stream("main-stage");
  assert.deepEqual(cannot_play, [{ codec: "vp8", listeners: 1 }]);
  await until("the publish page tells", 10_000, async () =>
    (await textOf(publisher, ".on-air .note")).includes("One listener in this zone cannot play VP8"),
  );
  // The publisher comes back with what this browser has.
  await publisher.context().close();
  const again = await browser.open(relay.url("/publish"), { codec: "VP9" });
  t.after(() => again.context().close());
  await goLive(again, { source: "camera" });
  await until("nothing is missing", 15_000, async () => (await textOf(part, ".player .note")) === "");
  await until("the picture is there", 15_000, () =>
    part.evaluate(() => document.querySelector("video").videoWidth > 0),
  );
  assert.deepEqual(part.faults, []);
});

test("doors_a_browser_that_udp_does_not_reach_says_which_port_to_open", async (t) => {
  const relay = await stage(t);
  const publisher = await browser.open(relay.url("/publish"));
  t.after(() => publisher.context().close());
  await goLive(publisher);
  const page = await browser.open(relay.url("/"));
  t.after(() => page.context().close());
  await holdBack(page);
  await page.click("button.play");
  const began = performance.now();
  await until("the page says so", 20_000, async () =>
    (await textOf(page, ".player .status")).includes("The page arrives, the sound does not"),
  );
  t.diagnostic(`after ${Math.round(performance.now() - began)} ms`);
  const port = relay.addresses.media.split(":")[1];
  assert.match(await textOf(page, ".player .note"), new RegExp(`UDP to 192\\.0\\.2\\.1, port ${port}`));
  await until("the relay has counted it", 20_000, async () => {
    const metrics = await (await fetch(relay.url("/metrics"))).text();
    return /relay_unreached_total\{kind="egress"\} [1-9]/.test(metrics);
  });
  assert.match(relay.log, /the page arrives, the sound does not: 1 listener had an answer.*UDP to 127\.0\.0\.1:\d+/);
  // As soon as there is a way, it plays.
  await letThrough(page);
  await until("it plays", 30_000, async () => (await textOf(page, ".player .status")).includes("Live"));
  assert.equal(await textOf(page, ".player .note"), "");
});

for (const [how, flags, leaves] of [
  ["that_takes_its_path_off", ["--public-url", "PATH"], false],
  ["that_leaves_its_path", ["--public-url", "PATH"], true],
  ["that_the_relay_knows_nothing_of", [], false],
]) {
  test(`doors_the_pages_work_behind_a_proxy_${how}`, async (t) => {
    const path = "/live/stage-1";
    const relay = await stage(t, ...flags.map((flag) => flag.replace("PATH", `https://live.example${path}`)));
    const front = await proxy(relay, path, { leaves });
    t.after(() => front.stop());
    const publisher = await browser.open(`${front.url}/publish`);
    t.after(() => publisher.context().close());
    await goLive(publisher);
    const page = await browser.open(`${front.url}/?stream=main-stage`);
    t.after(() => page.context().close());
    await listen(page);
    await say(page, "Ana", "is the bar open?");
    await until("the room's socket works", 10_000, async () => (await said(page)).length === 1);
    assert.equal(await page.evaluate(() => new URL(document.querySelector("a.mark").href).pathname), `${path}/`);
    // Reload, restart of ICE and end go to the session's own address.
    await publisher.reload();
    await onAir(publisher);
    await page.click("button.play");
    await until("the session is ended", 10_000, async () => (await relay.stream("main-stage")).listeners === 0);
    const outside = page.requests.filter((url) => /^(http|ws):/.test(url) && !new URL(url).pathname.startsWith(path));
    assert.deepEqual(outside, []);
    assert.deepEqual(page.faults, []);
    if (leaves) {
      const bare = await browser.open(front.url);
      t.after(() => bare.context().close());
      assert.equal(new URL(bare.url()).pathname, `${path}/`);
    }
    if (flags.length > 0) {
      const beside = await browser.open(relay.url("/organizer"));
      t.after(() => beside.context().close());
      await until("the box itself answers too", 5_000, async () => (await textOf(beside, ".bar")).includes("stage"));
    }
  });
}
