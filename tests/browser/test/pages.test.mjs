// The pages as such: they fit a phone and a desk, stay within the relay's origin and its policy.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { festival } from "../src/festival.mjs";
import { goLive, listen, textOf } from "../src/people.mjs";
import { until } from "../src/until.mjs";

const { ready, relays, browser } = festival("stage", "camping");
before(async () => {
  await ready;
  const publisher = await browser.open(relays[0].url("/publish"));
  await goLive(publisher, { stream: "main-stage", source: "camera" });
  await until("the other zone knows", 10_000, () => relays[1].stream("main-stage"));
});

for (const [width, height] of [
  [360, 640],
  [390, 844],
  [1280, 800],
]) {
  for (const path of ["/", "/publish", "/organizer"]) {
    test(`${path} fits ${width} px, keeps to its origin and says nothing on the console`, async (t) => {
      const page = await browser.open(relays[1].url(path), { width, height });
      t.after(() => page.context().close());
      if (path === "/") await listen(page);
      await until("the zone is shown", 5_000, async () => (await textOf(page, ".bar")).includes("camping"));
      await page.waitForLoadState("load");
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${over} px wider than the screen`);
      const small = await page.evaluate(() =>
        [...document.querySelectorAll("button, a, select, input:not([type=radio])")]
          .filter((element) => element.offsetParent !== null)
          .map((element) => ({ name: element.outerHTML.slice(0, 80), height: element.getBoundingClientRect().height }))
          .filter(({ height }) => height < 44),
      );
      assert.deepEqual(small, [], "targets smaller than a finger");
      const origin = new URL(relays[1].url("/")).host;
      const foreign = page.requests.filter(
        (url) => !url.startsWith("data:") && !url.startsWith("blob:") && new URL(url).host !== origin,
      );
      assert.deepEqual(foreign, []);
      assert.deepEqual(page.faults, []);
    });
  }
}

test("policy_blocks_inline_scripts_and_foreign_addresses", async (t) => {
  const page = await browser.open(relays[1].url("/"));
  t.after(() => page.context().close());
  const response = await fetch(relays[1].url("/"));
  const policy = response.headers.get("content-security-policy") ?? "";
  t.diagnostic(policy);
  assert.match(policy, /default-src 'self'/);
  assert.doesNotMatch(policy, /unsafe-inline|unsafe-eval/);
  const ran = await page.evaluate(async () => {
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
    const image = document.createElement("img");
    image.setAttribute("onerror", "window.ran = true");
    image.src = "/nothing.png";
    document.body.append(image);
    await new Promise((done) => setTimeout(done, 500));
    return window.ran === true;
  });
  assert.equal(ran, false);
  assert.equal(
    await page.evaluate(() =>
      fetch("http://192.0.2.1/").then(
        () => "asked",
        () => "blocked",
      ),
    ),
    "blocked",
  );
});

test("page_over_plain_http_from_elsewhere_listens_and_says_how_to_publish", async (t) => {
  // Not a secure context, and a name of the local network: the way most phones meet a relay.
  const address = relays[1].url("/").replace("127.0.0.1", "relay");
  const { chromium } = await import("playwright-core");
  const plain = await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--host-resolver-rules=MAP relay 127.0.0.1",
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
  t.after(() => plain.close());
  const page = await plain.newPage();
  await page.goto(new URL("/publish", address).href);
  await until("it says what to do", 5_000, async () => (await textOf(page, ".warning")).includes("https://"));
  assert.equal(await page.evaluate(() => isSecureContext), false);
  await page.goto(address);
  t.diagnostic(`tap to live ${await listen(page)} ms without a secure context`);
  await page.fill("input[name=author]", "Phone");
  await page.fill("input[name=text]", "plain works");
  await page.keyboard.press("Enter");
  await until("said", 5_000, async () => (await textOf(page, ".log")).includes("plain works"));
});

test("listen_page_weighs_under_60_kB", async (t) => {
  const page = await browser.open("about:blank");
  t.after(() => page.context().close());
  const wire = await page.context().newCDPSession(page);
  await wire.send("Network.enable");
  let bytes = 0;
  wire.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
  await page.goto(relays[1].url("/"), { waitUntil: "load" });
  await until("the page is there", 5_000, async () => (await textOf(page, ".bar")) !== "");
  t.diagnostic(`${(bytes / 1000).toFixed(1)} kB over the wire`);
  assert.ok(bytes > 1_000 && bytes < 60_000, `${bytes} bytes`);
});

test("while_losses_are_mended_more_of_the_sound_is_kept_and_the_line_says_so", async (t) => {
  const page = await browser.open(relays[1].url("/?stream=main-stage"));
  t.after(() => page.context().close());
  await listen(page);
  const stored = () =>
    page.evaluate(() => {
      const receivers = window.peers.at(-1).getReceivers();
      return receivers.find(({ track }) => track.kind === "audio").jitterBufferTarget;
    });
  await until("it is measured", 5_000, async () => (await stored()) === 0);
  // No packet is lost between two programs of one machine: the statistics say that each reading asked for one.
  await page.evaluate(() => {
    const peer = window.peers.at(-1);
    const statistics = peer.getStats.bind(peer);
    let nackCount = 0;
    peer.getStats = async () => {
      nackCount += 1;
      const isSound = (one) => one.type === "inbound-rtp" && one.kind === "audio";
      const all = [...(await statistics())];
      return new Map(all.map(([id, one]) => [id, isSound(one) ? { ...one, nackCount } : one]));
    };
  });
  await until("the line says so", 5_000, async () =>
    (await textOf(page, ".player .status")).includes("mending losses"),
  );
  await until("more is kept", 2_000, async () => (await stored()) === 80);
});
