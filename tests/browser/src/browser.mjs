// Real browsers without a window: Chromium with a tone as its microphone, Firefox with its own fake
// devices and a sound card made of PulseAudio's null sink.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";
import { writeTone } from "./tone.mjs";
import { until } from "./until.mjs";

const CHROMIUM = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
const FIREFOX = process.env.FIREFOX_BIN ?? ["/usr/bin/firefox-esr", "/usr/bin/firefox"].find(existsSync);
/** What Firefox's fake microphone plays. */
export const FIREFOX_HZ = 700;

/** Runs in each page before its own scripts: keeps the connections it makes, for their statistics. */
function keepPeers() {
  window.peers = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...parameters) {
      super(...parameters);
      window.peers.push(this);
    }
  };
}

/** Runs in a page before its own scripts: a browser that has this video codec and no other. */
function knowOnly(codec) {
  const add = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (what, ...more) {
    const transceiver = add.call(this, what, ...more);
    if (what === "video" || what?.kind === "video") {
      const of = more[0]?.direction === "recvonly" ? RTCRtpReceiver : RTCRtpSender;
      const known = of.getCapabilities("video").codecs.filter((one) => one.mimeType === `video/${codec}`);
      transceiver.setCodecPreferences(known);
    }
    return transceiver;
  };
}

export class Chromium {
  /** With `camera` its camera shows that file of JPEGs, and its addresses are no secret. */
  static async launch({ camera } = {}) {
    const directory = await mkdtemp(join(tmpdir(), "tone-"));
    const tone = join(directory, "tone.wav");
    await writeTone(tone);
    const browser = await chromium.launch({
      executablePath: CHROMIUM,
      headless: true,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-background-timer-throttling",
        "--disable-backgrounding-occluded-windows",
        "--disable-renderer-backgrounding",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream=fps=30",
        `--use-file-for-fake-audio-capture=${tone}`,
        ...(camera ? [`--use-file-for-fake-video-capture=${camera}`] : []),
        ...(camera ? ["--disable-features=WebRtcHideLocalIpsWithMdns"] : []),
      ],
    });
    return new Chromium(browser, directory);
  }

  constructor(browser, directory) {
    this.browser = browser;
    this.directory = directory;
  }

  /** A page of a person of their own: nothing shared with the other pages. */
  async open(url, { width = 390, height = 844, scale = 1, dark = false, codec } = {}) {
    const colorScheme = dark ? "dark" : "light";
    const person = await this.browser.newContext({
      viewport: { width, height },
      deviceScaleFactor: scale,
      colorScheme,
      permissions: ["microphone", "camera"],
    });
    const page = await person.newPage();
    page.faults = [];
    page.requests = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.faults.push(message.text()));
    page.on("pageerror", (error) => page.faults.push(error.message));
    page.on("request", (request) => page.requests.push(request.url()));
    page.on("websocket", (socket) => page.requests.push(socket.url()));
    await page.addInitScript(keepPeers);
    if (codec) await page.addInitScript(knowOnly, codec);
    await page.goto(url);
    return page;
  }

  async close() {
    await this.browser.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** A sound card of nothing: Firefox's AudioContext does not start without one. */
class SoundCard {
  static async start() {
    const directory = await mkdtemp(join(tmpdir(), "pulse-"));
    const socket = join(directory, "native");
    const child = spawn(
      "pulseaudio",
      ["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes"].concat([
        "-L",
        "module-null-sink sink_name=silence",
        "-L",
        `module-native-protocol-unix socket=${socket} auth-anonymous=1`,
      ]),
      {
        stdio: "ignore",
        env: { ...process.env, HOME: directory, XDG_RUNTIME_DIR: directory, PULSE_RUNTIME_PATH: directory },
      },
    );
    const card = new SoundCard();
    Object.assign(card, {
      directory,
      child,
      server: `unix:${socket}`,
      failed: new Promise((_, no) => child.once("error", no)),
    });
    await Promise.race([card.failed, until("PulseAudio listens", 10_000, async () => existsSync(socket))]);
    return card;
  }

  async stop() {
    const ended = new Promise((done) => this.child.once("exit", done));
    this.child.kill("SIGTERM");
    await ended;
    await rm(this.directory, { recursive: true, force: true });
  }
}

export class Firefox {
  static async launch() {
    const card = await SoundCard.start();
    const browser = await puppeteer.launch({
      browser: "firefox",
      executablePath: FIREFOX,
      headless: true,
      protocolTimeout: 60_000,
      env: { ...process.env, PULSE_SERVER: card.server },
      extraPrefsFirefox: {
        "media.autoplay.default": 0,
        "media.autoplay.blocking_policy": 0,
        "privacy.reduceTimerPrecision": false,
        // Otherwise it has no candidate that reaches a relay on 127.0.0.1.
        "media.peerconnection.ice.loopback": true,
        "media.navigator.streams.fake": true,
        "media.navigator.audio.fake_frequency": FIREFOX_HZ,
        "permissions.default.microphone": 1,
        "permissions.default.camera": 1,
      },
    });
    return new Firefox(browser, card);
  }

  constructor(browser, card) {
    this.browser = browser;
    this.card = card;
  }

  async open(url, { width = 800, height = 600 } = {}) {
    const page = await this.browser.newPage();
    await page.setViewport({ width, height });
    page.faults = [];
    page.requests = [];
    page.on("request", (request) => page.requests.push(request.url()));
    page.on("console", (message) => message.type() === "error" && page.faults.push(message.text()));
    page.on("pageerror", (error) => page.faults.push(error.message));
    await page.evaluateOnNewDocument(keepPeers);
    await page.goto(url);
    return page;
  }

  async close() {
    await this.browser.close();
    await this.card.stop();
  }
}
