// Somebody comes: a picture soon and the best one a little later, or the sound alone where there is room for no more.
import { heights, reached } from "../figures.mjs";
import { best } from "../ladder.mjs";
import { Viewer } from "../viewer.mjs";
import { DOWN, sleep, Zone } from "../zone.mjs";

export async function join(check, { browser = "chromium", plan = [3000, 200] } = {}) {
  const lines = [];
  for (const kbit of plan) {
    const zone = await Zone.start({ wire: { rate_bps: kbit * 1000 } });
    try {
      await zone.publish("stage");
      const viewer = await Viewer.launch(zone.lab, "l", browser);
      await viewer.open(`${zone.url()}?stream=stage`);
      await sleep(10_000);
      await zone.lab.queue(DOWN);
      await sleep(8_000);
      const queue = await zone.lab.queue(DOWN);
      const { pictures, statistics, connected } = await viewer.take();
      await viewer.close();
      lines.push(line(check, { browser, kbit, pictures, statistics, connected, queue }));
    } finally {
      await zone.stop();
    }
  }
  return lines;
}

function line(check, { browser, kbit, pictures, statistics, connected, queue }) {
  const name = `${browser} joins on ${kbit / 1000} Mbit/s`;
  const wanted = best(kbit);
  const to = Date.now();
  const turns = heights(pictures, connected, to);
  const first = pictures.find(([at]) => at >= connected)?.[0];
  const sound = statistics.find((one) => one.audio > 0)?.at;
  const [shown, top, heard] = [first - connected, reached(turns, wanted, connected), sound - connected];
  check(`${name}: sound`, seconds(heard), "1 s", heard <= 1_000);
  if (wanted > 0) {
    check(`${name}: picture`, seconds(shown), "1 s", shown <= 1_000);
    check(`${name}: best`, seconds(top), "6 s", top !== undefined && top <= 6_000);
  }
  const late = pictures.filter(([at]) => at > to - 5_000).length;
  const last = late === 0 ? 0 : pictures.at(-1)[2];
  check(`${name}: encoding at the end`, last, wanted, last === wanted);
  check(`${name}: sound comes`, seconds(heard), "at all", heard !== undefined, { fact: true });
  check(`${name}: queue p95`, `${queue.p95} ms`, "60 ms", queue.p95 < 60);
  return {
    what: name,
    sound: seconds(heard),
    picture: seconds(shown),
    best: seconds(top),
    queue: `${queue.p50} / ${queue.p95} ms`,
    turns: turns.map((turn) => `${turn.height || "–"}@${((turn.at - connected) / 1000).toFixed(1)}`).join(" "),
  };
}

const seconds = (ms) => (ms === undefined || Number.isNaN(ms) ? "never" : `${(ms / 1000).toFixed(1)} s`);
