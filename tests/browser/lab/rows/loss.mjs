// A radio that loses packets on a wire with room: the best encoding stays.
import { sleep } from "../../src/until.mjs";
import { concealed, freezes, heights } from "../figures.mjs";
import { DOWN, watching } from "../zone.mjs";

const RADIOS = [
  { name: "2 % lost", loss: "2%", least: 720 },
  { name: "5 % lost", loss: "5%", least: 720 },
  { name: "2 % lost in bursts of 3", loss: "2% burst 3", least: 720 },
  { name: "10 % lost", loss: "10%", least: 180 },
];

export async function loss(check, { browser = "chromium", radios = RADIOS, seconds = 30 } = {}) {
  return watching({ browser, wire: { rate_bps: 3_000_000 } }, async (zone, viewer) => {
    await sleep(12_000);
    const lines = [];
    for (const { name, loss, least } of radios) {
      const from = Date.now();
      zone.lab.tell(`loss ${DOWN} ${loss}`);
      await sleep(seconds * 1000);
      const to = Date.now();
      const { pictures, statistics } = await viewer.take();
      const turns = heights(pictures, from, to);
      const lowest = Math.min(...turns.map(({ height }) => height));
      const what = `${browser}, 3 Mbit/s, ${name}`;
      check(`${what}: lowest encoding`, lowest, least, lowest >= least);
      const last = turns.at(-1)?.height ?? 0;
      check(`${what}: encoding at the end`, last, "any", last > 0, { fact: true });
      const frozen = freezes(pictures, from, to);
      const heard = concealed(statistics, from, to);
      lines.push({
        wire: what,
        lowest,
        turns: turns.length - 1,
        freeze: `${frozen.longest} / ${frozen.all} ms`,
        concealed: `${heard.toFixed(2)} %`,
      });
      zone.lab.tell(`loss ${DOWN} 0%`);
      await sleep(5_000);
    }
    return lines;
  });
}
