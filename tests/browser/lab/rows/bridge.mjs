// A narrow bridge between two relays: three stages with three encodings each at one end, ten listeners at the other.
import { sleep, until } from "../../src/until.mjs";
import { concealed, freezes, grown, heights, reached, seconds, told } from "../figures.mjs";
import { THREE } from "../films.mjs";
import { program } from "../lab.mjs";
import { HEADERS, SOUND } from "../ladder.mjs";
import { chain } from "../mesh.mjs";
import { drops, onAir, publish } from "../relay.mjs";
import { Viewer } from "../viewer.mjs";

/** The stages, and how many listen to each beside the browser's page. The last is the most heard. */
const STAGES = [
  { name: "stage-1", crowd: 1 },
  { name: "stage-2", crowd: 2 },
  { name: "stage-3", crowd: 4 },
];
const LAST = STAGES.at(-1).name;
const OVER = "a>b";
/** A packet of 20 ms of sound over a bridge: 28 octets of IP and UDP, about 50 of QUIC, ours and RTP beside its payload. */
const BRIDGED_SOUND = SOUND + (78 * 8 * 50) / 1000;
/** Reasons for which a link drops sound, or a message. */
const SOUND_DROPS = ["bridge_too_late", "bridge_queue_full", "bridge_outbox_full"];

export function bridge(check) {
  const wire = { delay_ms: 50, queue_ms: 500, rate_bps: 5_000_000 };
  return chain(["a", "b"], wire, async (lab) => {
    const publishers = new Map();
    for (const { name } of STAGES) publishers.set(name, await publish(lab, "a", name, THREE));
    for (const { name } of STAGES) await onAir(lab, "b", name, THREE);
    const viewer = await Viewer.launch(lab, "b");
    const crowds = STAGES.map(({ name, crowd }) => listeners(lab, name, crowd));
    await Promise.all(STAGES.map(({ name }) => viewer.open(`http://127.0.0.1:8080/?stream=${name}`, name)));
    const row = new Phases(check, lab, viewer);
    await sleep(15_000);
    const lines = [await row.begin()];
    lines.push(await row.narrow());
    const others = STAGES.filter(({ name }) => name !== LAST);
    for (const { name } of others) await lab.end(publishers.get(name));
    lines.push(await row.soundAlone());
    for (const { name } of others) await publish(lab, "a", name, THREE);
    lines.push(await row.wide());
    await viewer.close();
    await Promise.all(crowds.map((crowd) => lab.end(crowd)));
    row.joined(crowds);
    await row.nobody();
    return lines;
  });
}

/** Listeners without limits at the far end. */
function listeners(lab, stream, count) {
  const args = ["load", "listen", `http://127.0.0.1:8080/whep/${stream}`, "--video", "--transport-cc", "--json"];
  return lab.spawn("b", program("signaling-client"), [...args, "--count", String(count), "--seconds", "600"]);
}

/** kbit/s of a picture on a bridge, by its rank: the base goes with every better encoding. */
const carried = (rank) => {
  const [base, ...better] = THREE.map(({ kbps }) => kbps * HEADERS);
  return rank === 0 ? 0 : base + (better[rank - 2] ?? 0);
};

/** The best that three stages can have on a bridge of so many kbit/s: the ranks of their pictures, and their sum. */
function combination(kbit) {
  const costs = [0, ...THREE].map((_, rank) => carried(rank));
  let found = { ranks: [0, 0, 0], sum: -1 };
  for (const a of costs.keys())
    for (const b of costs.keys())
      for (const c of costs.keys()) {
        if (a > b || b > c) continue;
        const takes = costs[a] + costs[b] + costs[c] + 3 * BRIDGED_SOUND;
        if (takes <= kbit * 0.85 && a + b + c > found.sum) found = { ranks: [a, b, c], sum: a + b + c };
      }
  return found;
}

const rank = (height) => THREE.findIndex((one) => one.height === height) + 1;
const shown = (ranks) => ranks.map((one) => THREE[one - 1]?.height ?? "–").join(", ");

/** What happens to the wire in turn, and what is wanted each time. */
class Phases {
  constructor(check, lab, viewer) {
    Object.assign(this, { check, lab, viewer });
  }

  /** All three stages on 5 Mbit/s. */
  async begin() {
    const kbit = 5000;
    const phase = await this.measure("5 Mbit/s", kbit, STAGES, 20_000, 0);
    for (const { name, seen } of phase.stages) {
      const first = seen.pictures.find(([at]) => at >= seen.connected)?.[0] - seen.connected;
      this.check(`${phase.name}: picture of ${name}`, seconds(first), "3 s", first <= 3_000);
    }
    const wanted = combination(kbit);
    const ranks = phase.stages.map(({ height }) => rank(height)).sort();
    const sum = ranks.reduce((all, one) => all + one, 0);
    const near = Math.abs(sum - wanted.sum) <= 1 && ranks.every((one) => one > 0);
    this.check(`${phase.name}: carried`, shown(ranks), `${shown(wanted.ranks)} or one step from it`, near);
    this.check(`${phase.name}: queue p95`, `${phase.queue.p95} ms`, "50 ms", phase.queue.p95 < 50);
    const most = phase.takes * 1.15;
    this.check(`${phase.name}: each encoding once`, `${phase.kbps} kbit/s`, most.toFixed(0), phase.kbps <= most);
    return phase.line;
  }

  async narrow() {
    const phase = await this.measure("1 Mbit/s", 1000, STAGES, 30_000);
    for (const { name, height } of phase.stages)
      this.check(`${phase.name}: picture of ${name}`, height, "180", height === 180);
    this.check(`${phase.name}: queue p95`, `${phase.queue.p95} ms`, "50 ms", phase.queue.p95 < 50);
    return phase.line;
  }

  async soundAlone() {
    const stages = STAGES.filter(({ name }) => name === LAST);
    return (await this.measure("0.3 Mbit/s, one stage", 300, stages, 30_000)).line;
  }

  async wide() {
    const phase = await this.measure("5 Mbit/s again", 5000, STAGES, 30_000);
    const { turns } = phase.stages.find(({ name }) => name === LAST);
    const top = reached(turns, 720, phase.from);
    this.check(`${phase.name}: best of ${LAST}`, seconds(top), "15 s", top !== undefined && top <= 15_000);
    return phase.line;
  }

  /** What the listeners beside the browser say at their end. */
  joined(crowds) {
    for (const [at, { name, crowd }] of STAGES.entries()) {
      const { text } = crowds[at];
      const { joined, join_ms: after } = JSON.parse(text.slice(text.indexOf("{")));
      const told = `${joined}, the last after ${seconds(after?.max)}`;
      this.check(
        `joined, beside the browser, ${name}`,
        told,
        `${crowd} in 3 s`,
        joined === crowd && after.max <= 3_000,
      );
    }
  }

  /** All listeners have left. */
  async nobody() {
    await until("nobody listens", 60_000, async () => {
      const streams = await this.lab.get("b", "/api/v1/streams");
      return streams.every(({ listeners }) => listeners === 0);
    });
    await sleep(5_000);
    const rate = await this.rate(5_000);
    this.check("5 s after the last listener left: kbit/s on the bridge", rate, "60", rate < 60, { fact: true });
  }

  /** Lets so much time pass on a wire of so many kbit/s; gives what was measured in the second half, and of sound in all. */
  async measure(name, kbit, stages, ms, settle = ms / 2) {
    const before = await this.dropped();
    const from = Date.now();
    this.lab.tell(`rate a-b ${kbit}kbit`);
    const posted = this.announce(name, ms);
    await sleep(settle);
    await this.lab.queue(OVER);
    const kbps = await this.rate(ms - settle);
    const queue = await this.lab.queue(OVER);
    const to = Date.now();
    await posted;
    const after = await this.dropped();
    const seen = [];
    for (const { name } of stages) seen.push(watched(name, await this.viewer.take(name), from, to));
    const lost = seen.reduce((all, one) => all + one.lost, 0);
    const worst = Math.max(...seen.map((one) => one.concealed));
    this.check(`${name}: packets of sound lost`, lost, "0", lost === 0);
    this.check(`${name}: concealed`, `${worst.toFixed(2)} %`, "1 %", worst < 1);
    for (const reason of SOUND_DROPS) {
      const count = (after.get(reason) ?? 0) - (before.get(reason) ?? 0);
      this.check(`${name}: ${reason}`, count, "0", count === 0);
    }
    const shed = [...after.keys()].filter((reason) => reason.startsWith("bridge_shed"));
    const sum = shed.reduce((all, reason) => all + after.get(reason) - (before.get(reason) ?? 0), 0);
    const takes = seen.reduce((all, one) => all + carried(rank(one.height)) + BRIDGED_SOUND, 0);
    const line = {
      bridge: name,
      shown: seen.map(({ turns }) => told(turns, from)).join("; "),
      freeze: `${Math.max(...seen.map(({ frozen }) => frozen.longest))} ms`,
      "sound lost": lost,
      concealed: `${worst.toFixed(2)} %`,
      shed: sum,
      queue: `${queue.p50} / ${queue.p95} ms`,
      kbps,
    };
    return { name, from, stages: seen, queue, kbps, takes, line };
  }

  /** kbit/s over the bridge in the next so many milliseconds. */
  async rate(ms) {
    const before = await this.lab.crossed(OVER);
    const at = Date.now();
    await sleep(ms);
    const after = await this.lab.crossed(OVER);
    const took = Date.now() - at;
    return Math.round(((after.bytes - before.bytes) * 8) / took);
  }

  /** What both relays dropped. */
  async dropped() {
    const all = await drops(this.lab, "a");
    for (const [reason, count] of await drops(this.lab, "b")) all.set(reason, (all.get(reason) ?? 0) + count);
    return all;
  }

  /** Something is announced at one end, four times; how long does it take to the other? */
  async announce(name, ms) {
    const begin = Date.now();
    const took = [];
    for (let turn = 0; turn < 4; turn++) {
      const at = Date.now();
      const body = JSON.stringify({ author: "Lab", text: `${name}, ${turn}` });
      const json = ["-H", "content-type: application/json", "-d", body];
      const text = await this.lab.run("a", "curl", ["-sf", ...json, "http://127.0.0.1:8080/api/v1/announcements"]);
      const { id } = JSON.parse(text);
      await until("the announcement is at b", 20_000, async () => {
        const there = await this.lab.get("b", "/api/v1/announcements");
        return there.some((one) => one.id === id);
      }).catch(() => undefined);
      took.push([Date.now() - at, at - begin]);
      await sleep(Math.max(0, at + ms / 4 - Date.now()));
    }
    const [most, after] = took.toSorted(([a], [b]) => b - a)[0];
    const when = `${seconds(most)}, posted after ${seconds(after)}`;
    this.check(`${name}: slowest announcement`, when, "1 s", most <= 1_000);
  }
}

/** What the page of a stage saw and heard. */
function watched(name, seen, from, to) {
  const turns = heights(seen.pictures, from, to);
  return {
    name,
    seen,
    turns,
    height: turns.at(-1)?.height ?? 0,
    frozen: freezes(seen.pictures, from, to),
    lost: grown(seen.statistics, "audioLost", from, to),
    concealed: concealed(seen.statistics, from, to),
  };
}
