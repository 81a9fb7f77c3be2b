// Steps of what the wire carries: 3, 1, 0.4, 0.2, 0.4, 1, 3 Mbit/s. The right encoding soon, no long freeze, whole sound.
import { sleep } from "../../src/until.mjs";
import { concealed, freezes, heights, kbps, reached, seconds, settled, told } from "../figures.mjs";
import { program } from "../lab.mjs";
import { best } from "../ladder.mjs";
import { counter } from "../relay.mjs";
import { DOWN, watching } from "../zone.mjs";

export const STEPS = [3000, 1000, 400, 200, 400, 1000, 3000];

/**
 * Watches a stream while the wire goes through these steps. Gives a line for each; what the table wants of it is told to
 * `check`.
 */
export async function steps(check, { browser = "chromium", plan = STEPS, seconds = 20, crowd = 0 } = {}) {
  const wire = { rate_bps: plan[0] * 1000 };
  return watching({ browser, wire, crowd: crowd > 0 }, async (zone, viewer) => {
    // They stay until the last step is over.
    const others = crowd > 0 ? await beside(zone, crowd, plan.length * seconds + 20) : await sleep(15_000);
    await viewer.take();
    const lines = [];
    const begin = Date.now();
    let before;
    for (const kbit of plan) {
      const from = Date.now();
      zone.lab.tell(`rate ${DOWN} ${kbit}kbit`);
      await sleep(seconds * 500);
      const queue = await zone.queue(seconds * 500);
      const to = Date.now();
      const seen = await viewer.take();
      lines.push(line(check, { browser, kbit, before, from, to, queue, seen }));
      before = kbit;
    }
    await others?.(check, heights(viewer.seen.pictures, begin, Date.now(), Number.POSITIVE_INFINITY).length - 1);
    return lines;
  });
}

function line(check, { browser, kbit, before, from, to, queue, seen }) {
  const wanted = best(kbit);
  const turns = heights(seen.pictures, from, to);
  const down = before !== undefined && kbit < before;
  const up = before !== undefined && kbit > before;
  const right = reached(turns, wanted, from);
  const stays = settled(turns, wanted, from);
  const frozen = freezes(seen.pictures, from, to);
  const made = concealed(seen.statistics, from, to);
  const name = `${browser} ${before === undefined ? "" : `${before / 1000} → `}${kbit / 1000} Mbit/s`;
  const last = turns.at(-1)?.height ?? 0;
  check(`${name}: encoding at the end`, last, wanted, last === wanted);
  check(`${name}: a picture, none too large`, last, wanted, last > 0 === wanted > 0 && last <= wanted, { fact: true });
  if (before !== undefined) {
    check(
      `${name}: right encoding`,
      seconds(right),
      down ? "2 s" : "10 s",
      right !== undefined && right <= (down ? 2_000 : 10_000),
    );
  }
  if (down && wanted > 0) {
    check(`${name}: longest freeze`, `${frozen.longest} ms`, "800 ms", frozen.longest <= 800);
    check(`${name}: frozen in all`, `${frozen.all} ms`, "1000 ms", frozen.all <= 1_000);
  }
  if (up && before > 200) check(`${name}: frozen`, `${frozen.all} ms`, "0 ms", frozen.all === 0);
  const bound = browser === "firefox" ? 2.5 : 1.5;
  check(`${name}: concealed`, `${made.toFixed(2)} %`, `${bound} %`, made < bound);
  check(`${name}: queue p95 in the last half`, `${queue.p95} ms`, "60 ms", queue.p95 < 60);
  const back = turns.filter((turn, at) => at > 1 && turn.height < turns[at - 1].height).length;
  if (up) check(`${name}: steps back`, back, "1", back <= 1);
  return {
    wire: name,
    right: seconds(right),
    stays: seconds(stays),
    turns: told(turns, from),
    freeze: `${frozen.longest} / ${frozen.all} ms`,
    concealed: `${made.toFixed(2)} %`,
    queue: `${queue.p50} / ${queue.p95} ms`,
    kbps: kbps(seen.statistics, to - (to - from) / 2, to),
  };
}

/**
 * Listeners without limits beside it, on a wire of their own: nothing of theirs may be lost, and no encoding may change.
 * Gives what tells that at the end; it wants to know how often the viewer's changed.
 */
async function beside(zone, count, time) {
  const url = `${zone.url("c")}whep/stage`;
  const args = ["load", "listen", url, "--video", "--transport-cc", "--json", "--count", String(count)];
  const load = zone.lab.spawn("c", program("signaling-client"), [...args, "--seconds", String(time)]);
  await sleep(15_000);
  const switched = () => counter(zone.lab, "r", "relay_video_switch_total");
  const before = await switched();
  return async (check, own) => {
    const switches = (await switched()) - before - own;
    await load.ended;
    const { joined, lost, duplicates, packets } = JSON.parse(load.text.slice(load.text.indexOf("{")));
    const name = `${count} listeners beside it`;
    check(`${name}: joined`, joined, count, joined === count);
    check(`${name}: packets lost of ${packets}`, `${lost} (${await where(zone.lab)})`, "0", lost === 0);
    check(`${name}: packets twice`, duplicates, "0", duplicates === 0);
    check(`${name}: changes of encoding`, switches, "0", switches === 0);
  };
}

/** Where packets to the host of the others were dropped. */
async function where(lab) {
  const { lost, overflowed } = await lab.crossed("r>c");
  const refused = await counter(lab, "r", "relay_drop_total", "send_refused");
  const full = await counter(lab, "r", "relay_drop_total", "worker_queue_full");
  const [relay, others] = [await lab.kernelDrops("r"), await lab.kernelDrops("c")];
  const places = {
    "the relay's queues": full,
    "its sockets": refused,
    "kernel of r, in": relay.in,
    "kernel of r, out": relay.out,
    "the wire": lost + overflowed,
    "kernel of c, in": others.in,
  };
  return Object.entries(places)
    .map(([place, packets]) => `${place} ${packets}`)
    .join(", ");
}
