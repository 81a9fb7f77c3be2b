// The network lab (docs/netlab.md) with programs of our own on its hosts: brings it up, changes its wires, and ends with
// everything that was started in it.
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { sleep } from "../src/until.mjs";

export const ROOT = new URL("../../../", import.meta.url).pathname;
const BIN = process.env.PEDDLENET_BIN_DIR ?? join(ROOT, "target/release");
export const program = (name) => join(BIN, name);

/**
 * Programs go before whatever else runs on this machine, as those do that the lab starts itself; if they may. Relays,
 * publishers and listeners go before browsers, which would be other machines.
 */
const MAY = spawnSync("chrt", ["--rr", "1", "true"]).status === 0;
const first = (command) => (MAY ? ["chrt", "--rr", command.startsWith(BIN) ? "2" : "1"] : []);

export class Lab {
  /** Hosts, and wires as the JSON of a topology has them. */
  static async start(relays, wires) {
    const directory = await mkdtemp(join(tmpdir(), "lab-"));
    const topology = join(directory, "topology.json");
    await writeFile(topology, JSON.stringify({ relays, wires }));
    const child = spawn(program("netlab"), ["up", topology, "--", "sleep", "1000000"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lab = new Lab(directory, child);
    await Promise.all(
      relays.map((host) =>
        lab.line(new RegExp(`^${host}: .*--net=(\\S+)`)).then((found) => {
          lab.namespaces.set(host, found[1]);
        }),
      ),
    );
    // A picture for fifty listeners is more packets at once than the 500 that a device of the kernel holds by itself.
    const ends = wires.flatMap(({ ends: [a, b] }) => [
      [a, b],
      [b, a],
    ]);
    const longer = (to) => ["link", "set", "dev", `to-${to}`, "txqueuelen", "10000"];
    await Promise.all(ends.map(([host, to]) => lab.run(host, "ip", longer(to))));
    return lab;
  }

  constructor(directory, child) {
    Object.assign(this, { directory, child, namespaces: new Map(), programs: new Set(), waiting: [] });
    this.ended = new Promise((done) => child.once("exit", done));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const at = this.waiting.findIndex(({ pattern }) => pattern.test(line));
      if (at >= 0) {
        const [{ pattern, done }] = this.waiting.splice(at, 1);
        done(line.match(pattern));
      }
    });
  }

  /** The next line of the lab that is like this. */
  line(pattern) {
    const found = new Promise((done) => this.waiting.push({ pattern, done }));
    const ended = this.ended.then((code) => {
      throw new Error(`the lab ended with ${code}`);
    });
    return Promise.race([found, ended]);
  }

  /** A command of the lab: `rate r>l 1mbit`. */
  tell(...commands) {
    for (const command of commands) this.child.stdin.write(`${command}\n`);
  }

  /** How long packets waited for the rate of a lane since the last call, in milliseconds. */
  async queue(lane) {
    const found = this.line(new RegExp(`^queue ${lane}: (\\d+) packets waited p50 (\\S+), p95 (\\S+), max (\\S+) ms`));
    this.tell(`queue ${lane}`);
    const [, packets, p50, p95, max] = (await found).map(Number);
    return { packets, p50, p95, max };
  }

  /** What crossed a lane so far. */
  async crossed(lane) {
    const found = this.line(
      new RegExp(`^${lane}: (\\d+) packets, (\\d+) bytes, (\\d+) lost, (\\d+) overflowed, (\\d+) cut`),
    );
    this.tell("show");
    const [, packets, bytes, lost, overflowed, cut] = (await found).map(Number);
    return { packets, bytes, lost, overflowed, cut };
  }

  /** Starts a program on a host. */
  spawn(host, command, args = [], { stdio = ["ignore", "pipe", "pipe"], env = {} } = {}) {
    const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("RELAY_")));
    const child = spawn("nsenter", [`--net=${this.namespaces.get(host)}`, ...first(command), command, ...args], {
      stdio,
      env: { ...own, ...env },
    });
    child.text = "";
    for (const out of [child.stdout, child.stderr]) {
      out?.setEncoding("utf8").on("data", (text) => {
        child.text = (child.text + text).slice(-100_000);
      });
    }
    // What it printed last comes after its end, unless somebody else holds its pipe.
    const read = new Promise((done) => child.once("close", done));
    const ended = new Promise((done) => child.once("exit", (code) => done(code)));
    child.ended = ended.then((code) => Promise.race([read, sleep(1_000)]).then(() => code));
    child.ended.then(() => this.programs.delete(child));
    this.programs.add(child);
    return child;
  }

  /** Runs a program on a host to its end; gives what it printed. */
  async run(host, command, args) {
    const child = this.spawn(host, command, args);
    const code = await child.ended;
    if (code !== 0) throw new Error(`${command} ${args.join(" ")} on ${host} ended with ${code}: ${child.text}`);
    return child.text;
  }

  /** What a relay answers on a host of its own. */
  async get(host, path) {
    const text = await this.run(host, "curl", ["-sf", "--max-time", "5", `http://127.0.0.1:8080${path}`]);
    return path.startsWith("/api/") ? JSON.parse(text) : text;
  }

  /** Packets that the kernel of a host dropped: on their way out to its wires, and before a program read them. */
  async kernelDrops(host) {
    const links = JSON.parse(await this.run(host, "ip", ["-s", "-j", "link"]));
    const out = links.reduce((all, { stats64 }) => all + (stats64?.tx?.dropped ?? 0), 0);
    const [names, values] = (await this.run(host, "cat", ["/proc/net/snmp"]))
      .match(/^Udp: .*$/gm)
      .map((line) => line.split(" "));
    return { out, in: Number(values[names.indexOf("RcvbufErrors")]) };
  }

  /** Ends a program. */
  async end(child) {
    if (!this.programs.has(child)) return;
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
    await child.ended;
    clearTimeout(timer);
  }

  async stop() {
    await Promise.all([...this.programs].map((child) => this.end(child)));
    this.child.stdin.end("quit\n");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 5_000);
    await this.ended;
    clearTimeout(timer);
    await rm(this.directory, { recursive: true, force: true });
  }
}
