// Runs the tests one after another, since they measure time: `node run.mjs [part of a test's name]…`.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const wanted = process.argv.slice(2);
const names = wanted.map((name) => `--test-name-pattern=${name}`);
// A file starts its relays whether or not one of its tests is wanted: leave out those without one.
const files = readdirSync(new URL("test/", import.meta.url)).filter((name) => {
  const text = name.endsWith(".test.mjs") ? readFileSync(new URL(`test/${name}`, import.meta.url), "utf8") : "";
  return text !== "" && (wanted.length === 0 || wanted.some((part) => new RegExp(part).test(text)));
});
if (files.length === 0) {
  console.error(`no test is named like ${wanted.join(" or ")}`);
  process.exit(1);
}
const run = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=1", "--test-reporter=spec", ...names, ...files.map((name) => `test/${name}`)],
  { cwd: new URL(".", import.meta.url), stdio: "inherit" },
);
process.exit(run.status ?? 1);
