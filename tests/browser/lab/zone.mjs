// A zone of the lab: a relay on host `r` with a stage, and listeners on other hosts.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../src/until.mjs";
import { THREE } from "./films.mjs";
import { Lab } from "./lab.mjs";
import { publish, startRelay } from "./relay.mjs";
import { Viewer } from "./viewer.mjs";

/** Of the wire of the table: 20 ms each way, 200 ms of queue. */
export const WIRE = { delay_ms: 20, queue_ms: 200 };
/** What leaves the relay for the viewer. */
export const DOWN = "r>l";

export class Zone {
  /**
   * `hosts` are those of listeners: each has a wire of its own to the relay. `l` is the one whose wire is `wire`. `flags`
   * are more of the relay's.
   */
  static async start({ wire = {}, crowd = false, flags = [] } = {}) {
    const hosts = crowd ? ["l", "c"] : ["l"];
    const wires = hosts.map((host) => ({
      ends: ["r", host],
      ...(host === "l" ? { ...WIRE, ...wire } : { delay_ms: 1 }),
    }));
    const lab = await Lab.start(["r", ...hosts], wires);
    const zone = new Zone(lab, await mkdtemp(join(tmpdir(), "zone-")));
    try {
      await startRelay(lab, "r", zone.data, [], flags);
    } catch (error) {
      await zone.stop();
      throw error;
    }
    return zone;
  }

  constructor(lab, data) {
    Object.assign(this, { lab, data });
  }

  /** Where the page of a host finds the relay. */
  url(host = "l") {
    return `http://10.77.${host === "l" ? 0 : 1}.1:8080/`;
  }

  /** How long packets to the viewer wait in so much time, in milliseconds. */
  async queue(ms) {
    await this.lab.queue(DOWN);
    await sleep(ms);
    return this.lab.queue(DOWN);
  }

  /** A stage goes on air; `more` is what else its publisher is told, `sound` which sound it has. */
  async publish(stream, encodings, more, sound) {
    this.published = Date.now();
    await publish(this.lab, "r", stream, encodings, more, sound);
  }

  async stop() {
    await this.lab.stop();
    await rm(this.data, { recursive: true, force: true });
  }
}

/**
 * Somebody with this browser watches the stage of a zone of its own, behind `wire`, for as long as `work` takes with the
 * zone and the viewer. Gives what that gives.
 */
export async function watching({ browser, encodings = THREE, more, sound, ...hosts }, work) {
  const zone = await Zone.start(hosts);
  try {
    await zone.publish("stage", encodings, more, sound);
    const viewer = await Viewer.launch(zone.lab, "l", browser);
    await viewer.open(`${zone.url()}?stream=stage`);
    const done = await work(zone, viewer);
    await viewer.close();
    return done;
  } finally {
    await zone.stop();
  }
}
