// What a phone downloads to listen, gzipped; and that no built page breaks the relay's
// Content-Security-Policy or reaches outside its origin. Run after `vite build`.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT = 60_000;
const dist = new URL("./dist/", import.meta.url);
const read = (path) => readFileSync(new URL(path.replace(/^\//, ""), dist));
const zipped = (path) => gzipSync(read(path), { level: 9 }).length;

/** Every file a page loads to show itself, static imports included. */
function filesOf(page) {
  const found = new Set([page]);
  const html = read(page).toString();
  for (const [, path] of html.matchAll(/(?:src|href)="\.(\/[^"]+)"/g)) found.add(path);
  for (const path of found) {
    if (!path.endsWith(".js")) continue;
    for (const [, name] of read(path)
      .toString()
      .matchAll(/(?:from|import)\s*["'`]\.\/([^"'`]+\.js)["'`]/g)) {
      found.add(`/assets/${name}`);
    }
  }
  return [...found];
}

let failed = false;
for (const page of ["index.html", "publish.html", "organizer.html"]) {
  const html = read(page).toString();
  if (/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=/.test(html)) {
    console.error(`${page}: holds an inline script or style, which the relay's CSP blocks`);
    failed = true;
  }
  const files = filesOf(page);
  if (files.length < 3) {
    console.error(`${page}: its script and style are not found`);
    failed = true;
  }
  const total = files.reduce((sum, path) => sum + zipped(path), 0);
  console.log(`${page.padEnd(15)} ${(total / 1000).toFixed(1)} kB gzip`);
  if (total > LIMIT) {
    console.error(`${page}: ${total} bytes are more than the ${LIMIT} a phone should load`);
    failed = true;
  }
}
for (const name of readdirSync(new URL("assets/", dist))) {
  const text = read(`assets/${name}`).toString();
  for (const [url] of text.matchAll(/(?:https?:)?\/\/[a-z0-9.-]+\.[a-z]{2,}[^\s"'`)]*/g)) {
    if (/^https?:\/\/www\.w3\.org\//.test(url)) continue; // names of XML namespaces, never fetched
    console.error(`${name}: names an address outside the relay: ${url}`);
    failed = true;
  }
}
process.exit(failed ? 1 : 0);
