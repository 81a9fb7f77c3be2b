// Tables of measurements in the network lab, each row with what is wanted of it: of adaptation, and of sound.
// `script/netlab adaptation` and `script/netlab sound` run them; `--short` is what `script/test netlab` runs.
import { readFile, writeFile } from "node:fs/promises";
import { join as path } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "./lab.mjs";
import { bridge } from "./rows/bridge.mjs";
import { bursts } from "./rows/bursts.mjs";
import { hops } from "./rows/hops.mjs";
import { join } from "./rows/join.mjs";
import { loss } from "./rows/loss.mjs";
import { pause } from "./rows/pause.mjs";
import { besideTcp, two, widths } from "./rows/rfc8867.mjs";
import { soundLoss, soundNarrow, soundSteps } from "./rows/sound.mjs";
import { steps } from "./rows/steps.mjs";
import { deaths, switches } from "./rows/switches.mjs";
import { soundLossYardstick, soundStepsYardstick, yardstick } from "./rows/yardstick.mjs";

const ADAPTATION = {
  "steps in Chromium": (check) => steps(check),
  "steps in Firefox": (check) => steps(check, { browser: "firefox" }),
  "steps beside 50 others": (check) => steps(check, { crowd: 50, plan: [3000, 1000, 3000] }),
  "steps without a relay": (check) => yardstick(check),
  "RFC 8867, 5.1": (check) => widths(check),
  "RFC 8867, 5.4": (check) => two(check),
  "RFC 8867, 5.6": (check) => besideTcp(check),
  "RFC 8867, 5.6 with BBR": (check) => besideTcp(check, { control: "bbr" }),
  "RFC 8867, 5.8": (check) => pause(check),
  "a radio": (check) => loss(check),
  join: (check) => join(check),
  bridge: (check) => bridge(check),
  "1080p30 over three hops": (check) => hops(check),
  "switches, VP8": (check) => switches(check, random()),
  "switches, VP9": (check) => switches(check, { codec: "vp9", ...random() }),
  "switches, AV1": (check) => switches(check, { codec: "av1", ...random() }),
  "switches in Firefox, VP8": (check) => switches(check, { browser: "firefox", ...random() }),
  "switches in Firefox, VP9": (check) => switches(check, { browser: "firefox", codec: "vp9", ...random() }),
  "switches in Firefox, AV1": (check) => switches(check, { browser: "firefox", codec: "av1", ...random() }),
  "encodings that die": (check) => deaths(check),
  "bursts on a shallow queue": (check) => bursts(check),
};
const SOUND = {
  "sound-loss in Chromium": (check) => soundLoss(check),
  "sound-loss in Firefox": (check) => soundLoss(check, { browser: "firefox" }),
  "sound-loss without a relay": (check) => soundLossYardstick(check),
  "sound-narrow in Chromium": (check) => soundNarrow(check),
  "sound-narrow in Firefox": (check) => soundNarrow(check, { browser: "firefox" }),
  "sound-narrow, steps in Chromium": (check) => soundSteps(check),
  "sound-narrow, steps in Firefox": (check) => soundSteps(check, { browser: "firefox" }),
  "sound-narrow, steps without a relay": (check) => soundStepsYardstick(check),
};
const TABLES = { adaptation: ADAPTATION, sound: SOUND };
const SHORT = {
  steps: (check) => steps(check, { plan: [3000, 1000, 400], seconds: 14 }),
  "no room for a picture": (check) => join(check, { plan: [200] }),
  "a radio": (check) => loss(check, { radios: [{ name: "5 % lost", loss: "5%", least: 180 }], seconds: 15 }),
  "sound only": (check) => pause(check, { seconds: 8 }),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    table: { type: "string", default: "adaptation" },
    short: { type: "boolean" },
    store: { type: "boolean" },
    switches: { type: "string", default: "100" },
    seed: { type: "string", default: "1" },
  },
});
const long = TABLES[values.table];
if (long === undefined) throw new Error(`no table ${values.table}; there are: ${Object.keys(TABLES).join(", ")}`);
const rows = Object.entries(values.short ? SHORT : long).filter(
  ([name]) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
);
if (rows.length === 0) {
  console.error(`no row is named like ${positionals.join(" or ")}; there are: ${Object.keys(long).join(", ")}`);
  // `script/test netlab` gives its filters to all that it runs.
  process.exit(values.short ? 0 : 1);
}
let [missed, wrong] = [0, 0];
const text = new Map();
for (const [name, row] of rows) {
  console.log(`\n${name}`);
  const misses = [];
  const check = (what, value, bound, held, { fact = false } = {}) => {
    if (!held) {
      missed += 1;
      wrong += fact ? 1 : 0;
      misses.push(`${what}: ${value} (wanted: ${bound})`);
    }
    console.log(`  ${held ? "held  " : "MISSED"} ${what}: ${value} (wanted: ${bound})`);
  };
  // The other rows are worth their time all the same.
  const lines = await row(check).catch((error) => {
    check(name, error.message, "a row", false, { fact: true });
    console.error(error.stack);
    return [];
  });
  console.table(lines);
  const last = misses.length > 0 ? `Not held: ${misses.join("; ")}.` : "All held.";
  text.set(name, [`**${name}**`, "", ...(lines.length > 0 ? [...markdown(lines), ""] : []), last].join("\n"));
  // At once: half a table is worth more than none.
  if (values.store) await store(text);
}
console.log(`${missed} of what is wanted was missed`);
// What depends on how busy the machine is fails nothing in the short form.
process.exit((values.short ? wrong : missed) > 0 ? 1 : 0);

/** How many wishes, and which. */
function random() {
  return { count: Number(values.switches), seed: Number(values.seed) };
}

function markdown(lines) {
  const names = Object.keys(lines[0]);
  const row = (cells) => `| ${cells.join(" | ")} |`;
  return [row(names), row(names.map(() => "---")), ...lines.map((line) => row(names.map((name) => line[name])))];
}

/** Puts rows of the table into docs/performance.md, between its marks. What was not run stays as it was. */
async function store(rows) {
  const file = path(ROOT, "docs/performance.md");
  const before = await readFile(file, "utf8");
  const [begin, end] = [`<!-- ${values.table} -->`, `<!-- /${values.table} -->`];
  const [a, b] = [before.indexOf(begin) + begin.length, before.indexOf(end)];
  if (a < begin.length || b < 0) throw new Error(`${file} has no place for the table: ${begin} … ${end}`);
  const stored = new Map();
  for (const row of before.slice(a, b).split(/^(?=\*\*[^*]+\*\*$)/m)) {
    const [, name] = row.match(/^\*\*([^*]+)\*\*$/m) ?? [];
    if (name) stored.set(name, row.trim());
  }
  const table = Object.keys(long).map((name) => rows.get(name) ?? stored.get(name));
  const there = table.filter(Boolean).join("\n\n");
  await writeFile(file, `${before.slice(0, a)}\n\n${there}\n\n${before.slice(b)}`);
}
