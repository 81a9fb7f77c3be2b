// Zones in a chain and a Chromium for the tests of one file; both end with them.
import { after, before } from "node:test";
import { Chromium } from "./browser.mjs";
import { chain } from "./relay.mjs";

export function festival(...zones) {
  const relays = [];
  let chromium;
  before(async () => {
    relays.push(...(await chain(...zones)));
    chromium = await Chromium.launch();
  });
  after(async () => {
    await chromium?.close();
    await Promise.all(relays.map((relay) => relay.stop()));
  });
  return { relays, browser: { open: (...whom) => chromium.open(...whom) } };
}
