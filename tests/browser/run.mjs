// Runs the tests one after another, since they measure time: `node run.mjs [part of a test's name]…`.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";

const files = readdirSync(new URL("test/", import.meta.url)).filter((name) => name.endsWith(".test.mjs"));
const names = process.argv.slice(2).map((name) => `--test-name-pattern=${name}`);
const run = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=1", "--test-reporter=spec", ...names, ...files.map((name) => `test/${name}`)],
  { cwd: new URL(".", import.meta.url), stdio: "inherit" },
);
process.exit(run.status ?? 1);
