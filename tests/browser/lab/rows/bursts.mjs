// A shallow queue: 2 Mbit/s of a picture with keyframes of 60 kB on a wire that carries more and holds 15 ms. Pacing begins
// when losses have shown, so the first ten seconds are told apart.
import { sleep } from "../../src/until.mjs";
import { concealed, freezes, grown, kbps } from "../figures.mjs";
import { counter } from "../relay.mjs";
import { DOWN, watching } from "../zone.mjs";

const KEYFRAME = 60_000;
/** With the keyframes it is 2 Mbit/s: they are filled up. */
const PICTURE = [{ rid: "h", width: 1280, height: 720, kbps: 1850, fill: KEYFRAME }];
const FIRST = 10;

export async function bursts(check, { browser = "chromium", kbit = 5000, queue = 15, seconds = 40 } = {}) {
  const wire = { rate_bps: kbit * 1000, queue_ms: queue };
  return watching({ browser, wire, encodings: PICTURE }, async (zone, viewer) => {
    const parts = [];
    let [from, before, paced] = [await viewer.connected(), { overflowed: 0, packets: 0 }, 0];
    for (const time of [FIRST, seconds - FIRST]) {
      await sleep(time * 1000);
      const [to, after, waited] = [Date.now(), await zone.lab.crossed(DOWN), await delayed(zone)];
      const lane = { overflowed: after.overflowed - before.overflowed, packets: after.packets - before.packets };
      parts.push({ from, to, lane, paced: waited - paced });
      [from, before, paced] = [to, after, waited];
    }
    const { pictures, statistics } = await viewer.take();
    const name = `${browser}, ${kbit / 1000} Mbit/s, ${queue} ms`;
    return parts.map(({ from, to, lane, paced }, at) => {
      const [lost, came] = ["lost", "packets"].map((counter) => grown(statistics, counter, from, to));
      const percent = (100 * lost) / Math.max(1, lost + came);
      const frozen = freezes(pictures, from, to);
      const what = `${name}, ${at === 0 ? `first ${FIRST} s` : "then"}`;
      if (at > 0) {
        check(`${what}: packets lost`, `${percent.toFixed(2)} %`, "0.1 %", percent < 0.1);
        check(`${what}: packets come`, came, "at all", came > 0, { fact: true });
        check(`${what}: longest freeze`, `${frozen.longest} ms`, "500 ms", frozen.longest < 500);
      }
      return {
        what,
        lost: `${lost} of ${lost + came}: ${percent.toFixed(2)} %`,
        "overflowed on the wire": `${lane.overflowed} of ${lane.packets}`,
        paced,
        freeze: `${frozen.longest} / ${frozen.all} ms`,
        concealed: `${concealed(statistics, from, to).toFixed(2)} %`,
        kbps: kbps(statistics, from, to),
      };
    });
  });
}

/** Packets that waited at the relay. */
const delayed = (zone) => counter(zone.lab, "r", "relay_paced_packets_total");
