// A browser on a host of the lab, as the rows of the table use it: what it showed and heard, by time.
import { createInterface } from "node:readline";
import { until } from "../src/until.mjs";

export class Viewer {
  static async launch(lab, host, name = "chromium", { camera } = {}) {
    const eye = new URL("eye.mjs", import.meta.url).pathname;
    const child = lab.spawn(host, process.execPath, [eye], { stdio: ["pipe", "pipe", "inherit"] });
    const viewer = new Viewer(lab, child);
    await viewer.ask("launch", { name, camera });
    return viewer;
  }

  constructor(lab, child) {
    Object.assign(this, { lab, child, answers: new Map(), pages: new Map(), last: 0 });
    createInterface({ input: child.stdout }).on("line", (line) => {
      const { id, value, error } = JSON.parse(line);
      const [done, failed] = this.answers.get(id);
      this.answers.delete(id);
      if (error === undefined) done(value);
      else failed(new Error(error));
    });
    child.ended.then((code) => {
      for (const [, failed] of this.answers.values())
        failed(new Error(`the browser's host program ended with ${code}`));
    });
  }

  ask(verb, rest = {}) {
    const id = ++this.last;
    const answer = new Promise((done, failed) => this.answers.set(id, [done, failed]));
    this.child.stdin.write(`${JSON.stringify({ id, verb, ...rest })}\n`);
    return answer;
  }

  /** Opens the listen page and starts it; `size` is that of the page. */
  async open(url, page = "one", size = undefined) {
    await this.ask("open", { page, url, size });
  }

  /** Stops what a page plays, or plays it in another session. */
  async press(page = "one") {
    await this.ask("press", { page });
  }

  /** Opens an empty page. */
  async empty(page = "one") {
    await this.ask("empty", { page });
  }

  /** Waits until the session of a page is connected; gives when it was. */
  connected(page = "one") {
    return until("the viewer is connected", 15_000, async () => (await this.take(page)).connected);
  }

  /** What was seen so far: pictures as `[at, width, height, timestamp]`, statistics, and when the session was connected. */
  async take(page = "one") {
    const { pictures, statistics, connected } = await this.ask("take", { page });
    const seen = this.of(page);
    seen.pictures.push(...pictures);
    seen.statistics.push(...statistics);
    seen.connected = connected;
    return seen;
  }

  /** What was seen on a page, as far as it was taken. */
  of(page) {
    if (!this.pages.has(page)) this.pages.set(page, { pictures: [], statistics: [], connected: undefined });
    return this.pages.get(page);
  }

  get seen() {
    return this.of("one");
  }

  /** The address of a page's session. */
  session(page = "one") {
    return this.ask("session", { page });
  }

  /** Runs a script in the page. */
  evaluate(script, page = "one") {
    return this.ask("evaluate", { page, script });
  }

  async close() {
    await this.ask("end").catch(() => undefined);
    await this.lab.end(this.child);
  }
}
