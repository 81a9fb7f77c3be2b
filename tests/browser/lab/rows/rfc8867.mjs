// RFC 8867: a wire whose width changes (5.1), two listeners on one wire (5.4), beside a download over TCP (5.6).
import { sleep } from "../../src/until.mjs";
import { heights, kbps, reached, seconds, told } from "../figures.mjs";
import { best } from "../ladder.mjs";
import { DOWN, watching } from "../zone.mjs";

/** Each of them fills one of the wires of 5.1 to 83 %, with the sound. */
const FOUR = [
  { rid: "a", width: 320, height: 180, kbps: 120 },
  { rid: "b", width: 480, height: 270, kbps: 380 },
  { rid: "c", width: 640, height: 360, kbps: 710 },
  { rid: "d", width: 1280, height: 720, kbps: 1950 },
];

export async function widths(check, { browser = "chromium" } = {}) {
  const plan = [
    [1000, 40],
    [2500, 20],
    [600, 20],
    [1000, 20],
  ];
  return watching({ browser, wire: { rate_bps: 1_000_000 }, encodings: FOUR }, async (zone, viewer) => {
    const lines = [];
    for (const [kbit, time] of plan) {
      const from = Date.now();
      zone.lab.tell(`rate ${DOWN} ${kbit}kbit`);
      await sleep(10_000);
      const queue = await zone.queue((time - 10) * 1000);
      const to = Date.now();
      const { pictures, statistics } = await viewer.take();
      const wanted = best(kbit * 0.875, FOUR);
      const turns = heights(pictures, from, to);
      const right = reached(turns, wanted, from);
      const name = `${browser}, 5.1, ${kbit / 1000} Mbit/s`;
      check(`${name}: best that fits in 85 %`, seconds(right), "10 s", right !== undefined && right <= 10_000);
      lines.push({
        wire: name,
        right: seconds(right),
        turns: told(turns, from),
        queue: `${queue.p50} / ${queue.p95} ms`,
        kbps: kbps(statistics, from + 10_000, to),
      });
    }
    return lines;
  });
}

export async function two(check, { browser = "chromium" } = {}) {
  return watching({ browser, wire: { rate_bps: 3_000_000 }, encodings: FOUR }, async (zone, viewer) => {
    await viewer.open(`${zone.url()}?stream=stage`, "two");
    await sleep(30_000);
    const from = Date.now();
    const queue = await zone.queue(30_000);
    const to = Date.now();
    const rates = [];
    for (const page of ["one", "two"]) rates.push(kbps((await viewer.take(page)).statistics, from, to));
    const factor = Math.max(...rates) / Math.min(...rates);
    const name = `${browser}, 5.4, two on 3 Mbit/s`;
    check(`${name}: one times the other`, factor.toFixed(2), "1.5", factor <= 1.5);
    return [{ wire: name, kbps: rates.join(" and "), queue: `${queue.p50} / ${queue.p95} ms` }];
  });
}

/** Sends to the first who comes, as fast as it goes. */
const ENDLESS = `
import socket, sys
server = socket.socket()
server.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, sys.argv[1].encode())
server.bind(("", 9000))
server.listen()
client = server.accept()[0]
while True:
    client.sendall(bytes(65536))
`;

/** `control` is how the download looks for what there is: `cubic` fills the queue, `bbr` keeps a short one all the time. */
export async function besideTcp(check, { browser = "chromium", control = "cubic" } = {}) {
  return watching({ browser, wire: { rate_bps: 2_000_000 } }, async (zone, viewer) => {
    await sleep(10_000);
    zone.lab.spawn("r", "python3", ["-c", ENDLESS, control]);
    await sleep(1_000);
    const download = zone.lab.spawn("l", "bash", ["-c", "cat < /dev/tcp/10.77.0.1/9000 > /dev/null"]);
    await sleep(5_000);
    const from = Date.now();
    const queue = await zone.queue(40_000);
    const to = Date.now();
    await zone.lab.end(download);
    const { pictures, statistics } = await viewer.take();
    const turns = heights(pictures, from, to);
    const lowest = Math.min(...turns.map(({ height }) => height));
    const rate = kbps(statistics, from, to);
    const name = `${browser}, 5.6, 2 Mbit/s beside TCP (${control})`;
    check(`${name}: lowest encoding`, lowest, 180, lowest >= 180);
    check(`${name}: kbit/s of the picture`, rate, "1500", rate <= 1_500);
    const line = { wire: name, kbps: rate, lowest, turns: turns.length - 1 };
    return [{ ...line, queue: `${queue.p50} / ${queue.p95} ms` }];
  });
}
