// Relays in a chain: one on each host of a lab, bridged along the wires.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "./lab.mjs";
import { startRelay } from "./relay.mjs";

/** Runs `work` with a chain of relays on these hosts. All of its wires are like `wire`. */
export async function chain(hosts, wire, work) {
  const data = await mkdtemp(join(tmpdir(), "chain-"));
  const wires = hosts.slice(1).map((host, at) => ({ ends: [hosts[at], host], ...wire }));
  const lab = await Lab.start(hosts, wires);
  try {
    for (const [at, host] of hosts.entries())
      await startRelay(lab, host, data, at === 0 ? [] : [`10.77.${at - 1}.1:8081`]);
    return await work(lab);
  } finally {
    await lab.stop();
    await rm(data, { recursive: true, force: true });
  }
}
