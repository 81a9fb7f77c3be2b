// Pictures of every page at phone and desk width, from real relays, for people to look at:
// `node screenshots.mjs [directory]`.
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Chromium } from "./src/browser.mjs";
import { goLive, holdBack, listen, say, textOf } from "./src/people.mjs";
import { chain } from "./src/relay.mjs";
import { sleep, until } from "./src/until.mjs";

const directory = process.argv[2] ?? (await mkdtemp(join(tmpdir(), "pages-")));
await mkdir(directory, { recursive: true });
const relays = await chain("stage", "food", "camping");
const browser = await Chromium.launch();
try {
  for (const [stream, source] of [
    ["main-stage", "camera"],
    ["forest-floor", "mic"],
  ]) {
    await goLive(await browser.open(relays[0].url("/publish")), { stream, source });
  }
  const talker = await browser.open(relays[0].url("/?stream=main-stage"));
  await say(talker, "Ana", "Left gate is short now, come over");
  for (const [width, height] of [
    [390, 844],
    [1280, 860],
  ]) {
    const shoot = async (page, name) => {
      await sleep(2_500);
      await page.screenshot({ path: join(directory, `${name}-${width}.png`), fullPage: true });
      await page.context().close();
    };
    for (const stream of ["main-stage", "forest-floor"]) {
      const page = await browser.open(relays[2].url(`/?stream=${stream}`), { width, height });
      await listen(page);
      await shoot(page, stream);
    }
    await shoot(await browser.open(relays[2].url("/"), { width, height }), "list");
    for (const dark of [false, true]) {
      const shade = dark ? "dark" : "light";
      const part = await browser.open(relays[2].url("/?stream=main-stage"), { width, height, dark, codec: "AV1" });
      await listen(part);
      await shoot(part, `codec-${shade}`);
      const held = await browser.open(relays[2].url("/?stream=main-stage"), { width, height, dark });
      await holdBack(held);
      await held.click("button.play");
      await until("the page says so", 20_000, async () => (await textOf(held, ".player .status")).includes("arrives"));
      await shoot(held, `held-back-${shade}`);
      const stuck = await browser.open(relays[0].url("/publish"), { width, height, dark });
      await holdBack(stuck);
      await stuck.click("button.go");
      await until("the page says so", 20_000, async () => (await textOf(stuck, ".on-air .status")).includes("arrives"));
      await shoot(stuck, `publish-held-back-${shade}`);
    }
    await shoot(await browser.open(relays[2].url("/organizer"), { width, height }), "organizer");
    const publisher = await browser.open(relays[0].url("/publish"), { width, height });
    await goLive(publisher, { stream: `desk-${width}` });
    await shoot(publisher, "publish");
  }
} finally {
  await browser.close();
  await Promise.all(relays.map((relay) => relay.stop()));
}
console.log(directory);
