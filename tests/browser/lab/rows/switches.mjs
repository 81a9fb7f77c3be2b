// From one encoding to another and back: many random wishes, and encodings that die and return.
import { sleep } from "../../src/until.mjs";
import { freezes, grown, heights, longest, seconds, told } from "../figures.mjs";
import { THREE } from "../films.mjs";
import { random } from "../random.mjs";
import { counter } from "../relay.mjs";
import { watching } from "../zone.mjs";

const SHORTEST_MS = 300;
const LONGEST_MS = 1_500;
/** What a decoder reads must go on: a 90 kHz clock of 32 bits. */
const earlier = (a, b) => ((b - a) | 0) <= 0;

/** So many random wishes, one after the other. Nothing of it may be seen but the size. */
export async function switches(check, { browser = "chromium", codec = "vp8", count = 100, seed = 1 } = {}) {
  const encodings = THREE.map((one) => ({ ...one, codec }));
  return watching({ browser, wire: { rate_bps: 20_000_000 }, encodings }, async (zone, viewer) => {
    await viewer.connected();
    await sleep(10_000);
    const { statistics: first } = await viewer.take();
    const counters = () =>
      Promise.all([
        counter(zone.lab, "r", "relay_video_switch_total", "wish"),
        counter(zone.lab, "r", "relay_pli_total", "in"),
      ]);
    const [switchedBefore, asksBefore] = await counters();
    const from = Date.now();
    const session = await viewer.session();
    const next = random(seed);
    let [wished, refused] = ["h", 0];
    for (let turn = 0; turn < count; turn++) {
      const others = encodings.filter(({ rid }) => rid !== wished);
      wished = others[Math.floor(next() * others.length)].rid;
      const status = await viewer.evaluate(wish(session, wished));
      refused += status === 200 ? 0 : 1;
      await sleep(SHORTEST_MS + next() * (LONGEST_MS - SHORTEST_MS));
      if (turn % 50 === 49) await viewer.take();
    }
    await sleep(3_000);
    const to = Date.now();
    const { pictures, statistics } = await viewer.take();
    const [switched, asks] = await counters();
    const inside = pictures.filter(([at]) => at >= from && at <= to);
    const back = inside.filter(([, , , clock], at) => at > 0 && earlier(inside[at - 1][3], clock)).length;
    const frozen = freezes(pictures, from, to);
    const plis = grown(statistics, "plis", from, to);
    const turns = heights(pictures, from, to).length - 1;
    const last = encodings.find(({ height }) => height === pictures.at(-1)[2])?.rid ?? "–";
    const name = `${browser}, ${codec.toUpperCase()}, ${count} wishes, seed ${seed}`;
    check(`${name}: wishes that were refused`, refused, "0", refused === 0);
    check(`${name}: changes of the size`, turns, `${count / 2} at least`, turns >= count / 2);
    check(`${name}: longest freeze`, `${frozen.longest} ms`, "500 ms", frozen.longest <= 500);
    const asked = Math.max(plis, asks - asksBefore);
    check(`${name}: PLIs of the browser`, asked, "0", asked === 0);
    check(`${name}: pictures with an earlier timestamp`, back, "0", back === 0);
    check(`${name}: encoding at the end`, last, wished, last === wished);
    const lost = grown(statistics, "lost", from, to);
    return [
      {
        what: name,
        switches: switched - switchedBefore,
        turns,
        freeze: `${frozen.longest} / ${frozen.all} ms`,
        plis: `${plis}, ${grown(first, "plis", 0, from)} before`,
        "PLIs at the relay": asks - asksBefore,
        "timestamps back": back,
        lost,
        "not decoded": grown(statistics, "frames", from, to) - grown(statistics, "decoded", from, to),
      },
    ];
  });
}

/** In the listen page: a wish of its session. Gives the status. */
const wish = (session, rid) => `(async () => {
  const headers = { "content-type": "application/json" };
  return (await fetch("${session}/layer", { method: "POST", headers, body: '{"encodingId":"${rid}"}' })).status;
})()`;

/** Seconds of the publisher's clock in which encodings are not sent. */
const DEATHS = [
  { name: "the best", rids: ["h"], from: 25, to: 35 },
  { name: "the base", rids: ["l"], from: 45, to: 55 },
  { name: "all but the base", rids: ["m", "h"], from: 65, to: 75 },
  { name: "all but the middle one", rids: ["l", "h"], from: 85, to: 95 },
  { name: "all", rids: ["l", "m", "h"], from: 105, to: 111 },
];
const END = 125;

/** Encodings die and return. The picture goes on with what there is. */
export async function deaths(check, { browser = "chromium", codec = "vp8" } = {}) {
  const encodings = THREE.map((one) => ({ ...one, codec }));
  const pauses = DEATHS.flatMap(({ rids, from, to }) => rids.flatMap((rid) => ["--pause", `${rid}@${from}-${to}`]));
  const wire = { rate_bps: 20_000_000 };
  return watching({ browser, wire, encodings, more: pauses }, async (zone, viewer) => {
    const begin = zone.published;
    await sleep(begin + END * 1000 - Date.now());
    const { pictures } = await viewer.take();
    return DEATHS.map(({ name, rids, from, to }) => {
      // The publisher's clock begins a little after the program does.
      const [died, returned] = [begin + from * 1000, begin + to * 1000];
      const until = returned + 8_000;
      const there = encodings.filter(({ rid }) => !rids.includes(rid));
      const nothing = there.length === 0 ? returned - died : 0;
      const atDeath = longest(pictures, died - 1_000, returned - 500);
      const atReturn = longest(pictures, returned - 500, until);
      const meanwhile = heights(pictures, died + 4_000, returned - 500);
      const best = there.at(-1)?.height ?? 0;
      const last = heights(pictures, returned, until).at(-1)?.height ?? 0;
      const what = `${browser}, ${codec.toUpperCase()}, ${name} died for ${to - from} s`;
      if (nothing === 0) {
        check(`${what}: no picture for`, seconds(atDeath), "2 s", atDeath <= 2_000);
        check(`${what}: meanwhile`, told(meanwhile, died), best, meanwhile.at(-1)?.height === best);
        check(`${what}: no picture for at the return`, seconds(atReturn), "2 s", atReturn <= 2_000);
      } else {
        const late = Math.max(0, longest(pictures, died, until) - nothing);
        check(`${what}: a picture after the return`, seconds(late), "2 s", late <= 2_000);
      }
      check(`${what}: encoding at the end`, last, 720, last === 720);
      return {
        what,
        "no picture": seconds(atDeath),
        "at the return": seconds(atReturn),
        turns: told(heights(pictures, died - 1_000, until), died),
      };
    });
  });
}
