// Zones in a chain and a Chromium for the tests of one file; both end with them.
import { after, before } from "node:test";
import { Chromium } from "./browser.mjs";
import { chain } from "./relay.mjs";

export function festival(...zones) {
  const relays = [];
  let chromium;
  let begin;
  // Some releases of node begin the hooks of a file all at once: what another one needs is waited for.
  const ready = new Promise((done) => (begin = done)).then(async () => {
    relays.push(...(await chain(...zones)));
    chromium = await Chromium.launch();
  });
  before(() => {
    begin();
    return ready;
  });
  after(async () => {
    await chromium?.close();
    await Promise.all(relays.map((relay) => relay.stop()));
  });
  return { ready, relays, browser: { open: (...whom) => chromium.open(...whom) } };
}
