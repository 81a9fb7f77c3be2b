// Real relays on free loopback ports, bridged in a chain. Each is stopped by the process it is.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.mjs";

const here = fileURLToPath(new URL("..", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(here, "../../target");
const BINARY = resolve(process.env.RELAY_BIN ?? join(target, "debug/relay-node"));

export class Relay {
  /** Starts the relay of `zone`; resolves once it answers. */
  static async start(zone, peers = [], more = []) {
    if (!existsSync(BINARY))
      throw new Error(`no relay at ${BINARY}: build it (cargo build -p relay-node) or set RELAY_BIN`);
    const data = await mkdtemp(join(tmpdir(), `relay-${zone}-`));
    const relay = new Relay(zone, data, peers, more);
    await relay.run();
    return relay;
  }

  /** `more` are further flags. */
  constructor(zone, data, peers, more = []) {
    this.more = more;
    this.zone = zone;
    this.data = data;
    this.peers = peers;
    this.log = "";
  }

  async run(ports = { http: "127.0.0.1:0", media: "127.0.0.1:0", bridge: "127.0.0.1:0" }) {
    await rm(join(this.data, "addresses.json"), { force: true });
    const flags = ["--zone", this.zone, "--http", ports.http, "--media", ports.media, "--bridge", ports.bridge];
    flags.push(
      "--data",
      this.data,
      "--workers",
      "1",
      "--dev",
      ...this.peers.flatMap((peer) => ["--peer", peer]),
      ...this.more,
    );
    // RELAY_… in the environment would configure the relay, and RELAY_BIN is none of its keys.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("RELAY_")));
    this.child = spawn(BINARY, flags, { stdio: ["ignore", "pipe", "pipe"], env });
    this.ended = new Promise((done) => this.child.once("exit", (code, signal) => done({ code, signal })));
    this.ended.then((how) => (this.how = how));
    this.how = undefined;
    for (const out of [this.child.stdout, this.child.stderr]) {
      out.setEncoding("utf8");
      out.on("data", (text) => (this.log = (this.log + text).slice(-200_000)));
    }
    this.addresses = await until(`the relay of ${this.zone} is up`, 20_000, async () => {
      if (this.how) throw new Error(`relay of ${this.zone} ended: ${JSON.stringify(this.how)}\n${this.log}`);
      try {
        const addresses = JSON.parse(await readFile(join(this.data, "addresses.json"), "utf8"));
        return (await fetch(`http://${addresses.http}/livez`)).ok && addresses;
      } catch {
        return undefined;
      }
    });
  }

  /** The page at `path`, as a browser on this machine opens it. */
  url(path = "/") {
    return `http://${this.addresses.http}${path}`;
  }

  async get(path) {
    const response = await fetch(this.url(path));
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  streams() {
    return this.get("/api/v1/streams");
  }

  async stream(name) {
    return (await this.streams()).find((stream) => stream.name === name);
  }

  /** Pulls the plug. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** Starts again with the same data on the same ports. */
  async restart() {
    const { http, media, bridge } = this.addresses;
    await this.run({ http, media, bridge });
  }

  async stop() {
    if (this.how)
      console.error(
        `the relay of ${this.zone} ended by itself: ${JSON.stringify(this.how)}\n${this.log.slice(-4_000)}`,
      );
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 5_000);
    await this.ended;
    clearTimeout(timer);
    if (process.env.KEEP_LOGS) console.log(`--- ${this.zone}\n${this.log}`);
    await rm(this.data, { recursive: true, force: true });
  }
}

/** Relays of the zones given, each bridged to the one before; resolves when the ends know each other. */
export async function chain(...zones) {
  const relays = [];
  try {
    for (const zone of zones) {
      relays.push(await Relay.start(zone, relays.length ? [relays.at(-1).addresses.bridge] : []));
    }
    await meet(relays);
    return relays;
  } catch (error) {
    for (const relay of relays) console.error(`--- ${relay.zone}\n${relay.log.slice(-4_000)}`);
    await Promise.all(relays.map((relay) => relay.stop()));
    throw error;
  }
}

function meet(relays) {
  return until("the ends of the chain know each other", 20_000, async () => {
    const ends = [relays[0], relays.at(-1)];
    const meshes = await Promise.all(ends.map((relay) => relay.get("/api/v1/mesh")));
    return meshes.every(
      (mesh) => mesh.nodes.length === relays.length && mesh.links.filter((link) => link.up).length >= relays.length - 1,
    );
  });
}
