// Runs on a host of the lab, beside a browser: opens the listen page, or an empty one, and tells what the browser makes of
// it. Takes commands as lines of JSON and answers each with one.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Chromium, Firefox } from "../src/browser.mjs";

/** Runs in the page: each picture that is shown, and the browser's statistics ten times a second. */
function watch() {
  const seen = { pictures: [], statistics: [], connected: undefined };
  window.seen = seen;
  const wall = (at) => performance.timeOrigin + at;
  const video = document.querySelector("video");
  const shown = (now, about) => {
    seen.pictures.push([wall(now), about.width, about.height, about.rtpTimestamp]);
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  setInterval(() => {
    if (window.peers?.at(-1)?.connectionState === "connected") seen.connected ??= wall(performance.now());
  }, 10);
  setInterval(async () => {
    const peer = window.peers?.at(-1);
    if (!peer) return;
    const at = wall(performance.now());
    const out = { at };
    for (const one of (await peer.getStats()).values()) {
      if (one.type !== "inbound-rtp") continue;
      if (one.kind === "audio") {
        out.concealed = (one.concealedSamples ?? 0) - (one.silentConcealedSamples ?? 0);
        out.made = one.concealedSamples ?? 0;
        out.concealments = one.concealmentEvents ?? 0;
        out.samples = one.totalSamplesReceived ?? 0;
        out.audio = one.packetsReceived;
        out.audioOctets = one.bytesReceived;
        out.audioAsked = one.nackCount ?? 0;
        out.bufferSeconds = one.jitterBufferDelay ?? 0;
        out.bufferSamples = one.jitterBufferEmittedCount ?? 0;
        out.audioLost = one.packetsLost;
      } else {
        out.octets = one.bytesReceived;
        out.packets = one.packetsReceived;
        out.lost = one.packetsLost;
        out.frames = one.framesReceived;
        out.decoded = one.framesDecoded;
        out.plis = one.pliCount;
      }
    }
    seen.statistics.push(out);
  }, 100);
}

/** A small page would wish for less than the best. */
const SIZE = { width: 1280, height: 900, scale: 2 };

let browser;
let empty;
const pages = new Map();

const commands = {
  async launch({ name, camera }) {
    browser = await (name === "firefox" ? Firefox : Chromium).launch({ camera });
  },
  async open({ page: id, url, size = SIZE }) {
    const page = await browser.open(url, size);
    pages.set(id, page);
    await page.evaluate(watch);
    await page.waitForSelector("button.play");
    await page.click("button.play");
  },
  /** Presses the button of the listen page: it stops, or plays in another session. */
  async press({ page: id }) {
    await pages.get(id).click("button.play");
  },
  /** A page with a picture and nothing else. It is of this host, so that it may use the camera. */
  async empty({ page: id }) {
    empty ??= await new Promise((done) => {
      const server = createServer((_, answer) =>
        answer.setHeader("content-type", "text/html").end("<video autoplay muted></video>"),
      );
      server.listen(0, "127.0.0.1", () => done(server));
    });
    const page = await browser.open(`http://127.0.0.1:${empty.address().port}/`, SIZE);
    pages.set(id, page);
    await page.evaluate(watch);
  },
  async take({ page: id }) {
    const page = pages.get(id);
    return page.evaluate(() => {
      const { pictures, statistics, connected } = window.seen;
      window.seen.pictures = [];
      window.seen.statistics = [];
      return { pictures, statistics, connected };
    });
  },
  /** The address of the page's session, by what it asked for. */
  async session({ page: id }) {
    const addresses = pages.get(id).requests.map((url) => url.match(/^.*\/whep\/.*\/[0-9a-f]{32}(?=\/|$)/)?.[0]);
    return addresses.findLast(Boolean) ?? null;
  },
  async evaluate({ page: id, script }) {
    return pages.get(id).evaluate(script);
  },
  async end() {
    await browser?.close();
  },
};

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const { id, verb, ...rest } = JSON.parse(line);
    const answer = await commands[verb](rest).then(
      (value) => ({ id, value }),
      (error) => ({ id, error: error.message }),
    );
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    if (verb === "end") process.exit(0);
  })
  .on("close", () => commands.end().finally(() => process.exit(0)));
