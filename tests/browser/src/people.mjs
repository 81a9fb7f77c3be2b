// What people do on the pages, the same in each browser: publish, listen, talk.
import { until } from "./until.mjs";

export const textOf = (page, selector) =>
  page.evaluate((selector) => document.querySelector(selector)?.textContent ?? "", selector);

/** Goes live from the publish page by its own button. */
export async function goLive(page, { source = "mic", stream = "main-stage" } = {}) {
  await until("the publish page is there", 10_000, () =>
    page.evaluate(() => document.querySelector("button.go") !== null),
  );
  await page.evaluate((source) => document.querySelector(`input[name=source][value=${source}]`).click(), source);
  await page.evaluate((name) => {
    const input = document.querySelector("input[name=stream]");
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, name);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }, stream);
  await until("the form takes the name", 2_000, () =>
    page.evaluate(() => !document.querySelector("button.go").disabled),
  );
  await page.click("button.go");
  await onAir(page);
}

export async function onAir(page) {
  await until("on air", 15_000, async () => {
    const fault = await textOf(page, ".desk .warning");
    if (fault) throw new Error(fault);
    return (await textOf(page, ".on-air .status")).includes("On air");
  });
}

/** One tap on the listen page; resolves when the page says that it is live. Returns how long that took. */
export async function listen(page) {
  await until("the player is there", 15_000, () => page.evaluate(() => document.querySelector("button.play") !== null));
  const start = performance.now();
  await page.click("button.play");
  await until("the page says live", 20_000, async () => (await textOf(page, ".player .status")).includes("Live"));
  return Math.round(performance.now() - start);
}

export async function say(page, author, text) {
  await page.click("input[name=author]");
  await page.evaluate(() => document.querySelector("input[name=author]").select());
  await page.type("input[name=author]", author);
  await page.click("input[name=text]");
  await page.type("input[name=text]", text);
  await page.keyboard.press("Enter");
}

/** What the page shows as said: author and text of each message that the relay has accepted. */
export const said = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll(".log > li:not(.pending):not(.nothing)")].map((item) => ({
      author: item.querySelector("b").textContent,
      text: item.querySelector(".said").textContent,
      elements: item.querySelector(".said").childElementCount,
    })),
  );

const OFFERS = /\/wh[ei]p\/[^/]+$/;

/**
 * From now on the relay's answers to offers name an address where nobody is (RFC 5737): UDP does not get through. What is
 * below a session goes its way: the answer with its events does not end.
 */
export const holdBack = (page) =>
  page.route(OFFERS, async (route) => {
    const answer = await route.fetch();
    const body = (await answer.text()).replace(/127\.0\.0\.1 (\d+) typ host/g, "192.0.2.1 $1 typ host");
    await route.fulfill({ response: answer, body });
  });

/** There is a way again. */
export const letThrough = (page) => page.unroute(OFFERS);
