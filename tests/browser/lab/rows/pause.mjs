// RFC 8867, section 5.8: the picture pauses because somebody wishes so, and comes back.
import { sleep } from "../../src/until.mjs";
import { concealed, heights, seconds as inSeconds, reached } from "../figures.mjs";
import { DOWN, watching } from "../zone.mjs";

export async function pause(check, { browser = "chromium", seconds = 20 } = {}) {
  return watching({ browser, wire: { rate_bps: 3_000_000 } }, async (zone, viewer) => {
    await sleep(12_000);
    const paused = Date.now();
    await viewer.evaluate(choose("sound"));
    await sleep(2_000);
    const before = await zone.lab.crossed(DOWN);
    await sleep((seconds - 2) * 1000);
    const after = await zone.lab.crossed(DOWN);
    const resumed = Date.now();
    await viewer.evaluate(choose("best"));
    await sleep(12_000);
    const to = Date.now();
    const { pictures, statistics } = await viewer.take();
    const late = pictures.filter(([at]) => at > paused + 2_000 && at < resumed).length;
    const rate = Math.round(((after.bytes - before.bytes) * 8) / ((seconds - 2) * 1000));
    const back = reached(heights(pictures, resumed, to), 720, resumed);
    const last = pictures.at(-1)?.[2] ?? 0;
    const made = concealed(statistics, paused, to);
    const name = `${browser}, 3 Mbit/s, sound only for ${seconds} s`;
    check(`${name}: pictures after 2 s`, late, "0", late === 0, { fact: true });
    check(`${name}: kbit/s on the wire`, rate, "160", rate < 160, { fact: true });
    check(`${name}: encoding at the end`, last, 720, last === 720);
    check(`${name}: best again`, inSeconds(back), "10 s", back <= 10_000);
    check(`${name}: concealed`, `${made.toFixed(2)} %`, "1.5 %", made < 1.5);
    return [
      { what: name, meanwhile: `${rate} kbit/s`, "best again": inSeconds(back), concealed: `${made.toFixed(2)} %` },
    ];
  });
}

/** Presses one of the player's three choices. */
const choose = (value) => `document.querySelector('input[name="picture"][value="${value}"]').click()`;
