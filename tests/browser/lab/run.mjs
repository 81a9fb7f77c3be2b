// The table of adaptation: rows of measurements in the network lab, each with what is wanted of it.
// `script/netlab adaptation` runs it.
import { parseArgs } from "node:util";
import { steps } from "./rows/steps.mjs";

const ROWS = {
  "steps-chromium": (check) => steps(check),
  "steps-crowd": (check) => steps(check, { crowd: 50 }),
  down: (check) => steps(check, { plan: [1000, 400, 1000, 400], seconds: 15 }),
  "steps-firefox": (check) => steps(check, { browser: "firefox" }),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "string" }, help: { type: "boolean" } },
});
const wanted = positionals.length > 0 ? positionals : Object.keys(ROWS);
let missed = 0;
for (const name of wanted) {
  const row = ROWS[name];
  if (!row) throw new Error(`no row ${name}; there are: ${Object.keys(ROWS).join(", ")}`);
  console.log(`\n## ${name}`);
  const lines = await row((what, value, bound, held) => {
    if (!held) missed += 1;
    console.log(`${held ? "  held  " : "  MISSED"} ${what}: ${value} (wanted: ${bound})`);
  });
  console.table(lines);
}
console.log(`${missed} missed`);
