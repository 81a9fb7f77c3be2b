// A zone of the lab: a relay on host `r` with a stage, and listeners on other hosts.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep, until } from "../src/until.mjs";
import { film, THREE } from "./films.mjs";
import { Lab, program } from "./lab.mjs";

/** Of the wire of the table: 20 ms each way, 200 ms of queue. */
export const WIRE = { delay_ms: 20, queue_ms: 200 };
/** What leaves the relay for the viewer. */
export const DOWN = "r>l";

export class Zone {
  /** `hosts` are those of listeners: each has a wire of its own to the relay. `l` is the one whose wire is `wire`. */
  static async start({ wire = {}, crowd = false, flags = [] } = {}) {
    const hosts = crowd ? ["l", "c"] : ["l"];
    const wires = hosts.map((host) => ({
      ends: ["r", host],
      ...(host === "l" ? { ...WIRE, ...wire } : { delay_ms: 1 }),
    }));
    const lab = await Lab.start(["r", ...hosts], wires);
    const zone = new Zone(lab, await mkdtemp(join(tmpdir(), "zone-")));
    try {
      zone.relay = await startRelay(lab, "r", zone.data, flags);
    } catch (error) {
      await zone.stop();
      throw error;
    }
    return zone;
  }

  constructor(lab, data) {
    Object.assign(this, { lab, data, publishers: [] });
  }

  /** Where the page of a host finds the relay. */
  url(host = "l") {
    return `http://10.77.${host === "l" ? 0 : 1}.1:8080/`;
  }

  /** A stage goes on air and is known with all its encodings. */
  async publish(stream, { encodings = THREE, codec = "vp8", more = [] } = {}) {
    const films = encodings.map((encoding) => film(encoding, codec)).join(",");
    const rids = encodings.map(({ rid }) => rid).join(",");
    const args = ["publish", `http://127.0.0.1:8080/whip/${stream}`, "--tone", "440", "--bitrate", "96000"];
    const names = encodings.length > 1 ? ["--rids", rids] : [];
    const publisher = this.lab.spawn("r", program("signaling-client"), [
      ...args,
      "--encodings",
      films,
      ...names,
      ...more,
    ]);
    this.publishers.push(publisher);
    await until(`${stream} is on air`, 15_000, async () => {
      const streams = await this.lab.get("r", "/api/v1/streams");
      const there = streams.find(({ name }) => name === stream)?.encodings ?? [];
      return there.length === encodings.length && there.every((one) => one.kbps > 0 && one.width > 0);
    });
    return publisher;
  }

  /** A counter of the relay, over all its labels. */
  async metric(name) {
    const text = await this.lab.get("r", "/metrics");
    const lines = text.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  async stop() {
    await this.lab.stop();
    await rm(this.data, { recursive: true, force: true });
  }
}

/** A relay on a host of a lab, once it answers. */
export async function startRelay(lab, host, data, flags = []) {
  const own = ["--dev", "--log", "warn", "--zone", host, "--data", join(data, host)];
  const relay = lab.spawn(host, program("relay-node"), [...own, ...flags]);
  relay.ended.then((code) => code && console.error(`the relay of ${host} ended with ${code}: ${relay.text}`));
  await until(`the relay of ${host} answers`, 15_000, () =>
    lab.get(host, "/livez").then(
      () => true,
      () => false,
    ),
  );
  return relay;
}

export { sleep };
