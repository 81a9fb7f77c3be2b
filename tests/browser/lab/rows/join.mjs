// Somebody comes: a picture soon and the best one a little later, or the sound alone where there is room for no more.
import { sleep } from "../../src/until.mjs";
import { heights, reached, seconds, told } from "../figures.mjs";
import { best } from "../ladder.mjs";
import { watching } from "../zone.mjs";

export async function join(check, { browser = "chromium", plan = [3000, 200] } = {}) {
  const lines = [];
  for (const kbit of plan) {
    const row = await watching({ browser, wire: { rate_bps: kbit * 1000 } }, async (zone, viewer) => {
      await sleep(10_000);
      const queue = await zone.queue(8_000);
      return line(check, { browser, kbit, queue, ...(await viewer.take()) });
    });
    lines.push(row);
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
  check(`${name}: sound comes`, seconds(heard), "at all", Number.isFinite(heard), { fact: true });
  check(`${name}: queue p95`, `${queue.p95} ms`, "60 ms", queue.p95 < 60);
  return {
    what: name,
    sound: seconds(heard),
    picture: seconds(shown),
    best: seconds(top),
    queue: `${queue.p50} / ${queue.p95} ms`,
    turns: told(turns, connected),
  };
}
