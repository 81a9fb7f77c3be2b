// A relay on a host of the lab, and what is published there.
import { join } from "node:path";
import { until } from "../src/until.mjs";
import { film } from "./films.mjs";
import { program } from "./lab.mjs";

/** Starts a relay, bridged to these addresses. It is there once it answers. */
export async function startRelay(lab, host, data, peers = []) {
  const flags = ["--dev", "--log", "warn", "--zone", host, "--data", join(data, host)];
  for (const peer of peers) flags.push("--peer", peer);
  const relay = lab.spawn(host, program("relay-node"), flags);
  relay.ended.then((code) => code && console.error(`the relay of ${host} ended with ${code}: ${relay.text}`));
  await until(`the relay of ${host} answers`, 15_000, () =>
    lab.get(host, "/livez").then(
      () => true,
      () => false,
    ),
  );
}

/**
 * A stage goes on air at the relay of a host, with sound. It is there once it is known with all its encodings. Gives the
 * program that publishes.
 */
export async function publish(lab, host, stream, encodings, more = []) {
  const films = encodings.map(film).join(",");
  const rids = encodings.map(({ rid }) => rid).join(",");
  const args = ["publish", `http://127.0.0.1:8080/whip/${stream}`, "--tone", "440", "--bitrate", "96000"];
  const publisher = lab.spawn(host, program("signaling-client"), [
    ...args,
    ...["--encodings", films, "--rids", rids],
    ...more,
  ]);
  await onAir(lab, host, stream, encodings);
  return publisher;
}

/** Waits until a relay knows a stream with these encodings, and how dear and large they are. No size is known of AV1. */
export async function onAir(lab, host, stream, encodings) {
  const sized = encodings.every(({ codec }) => codec !== "av1");
  await until(`${stream} is on air at ${host}`, 30_000, async () => {
    const streams = await lab.get(host, "/api/v1/streams");
    const there = streams.find(({ name }) => name === stream)?.encodings ?? [];
    return there.length === encodings.length && there.every((one) => one.kbps > 0 && (one.width > 0 || !sized));
  });
}

/** A counter of a relay, all of its series together whose labels have these words. */
export async function counter(lab, host, name, ...words) {
  let sum = 0;
  for (const line of (await lab.get(host, "/metrics")).split("\n")) {
    const [, labels = "", value] = line.match(new RegExp(`^${name}(\\{.*\\})? (\\S+)$`)) ?? [];
    if (value !== undefined && words.every((word) => labels.includes(`"${word}"`))) sum += Number(value);
  }
  return sum;
}

/** What a relay dropped, by reason. */
export async function drops(lab, host) {
  const found = (await lab.get(host, "/metrics")).matchAll(/^relay_drop_total\{reason="(\w+)"\} (\d+)$/gm);
  return new Map([...found].map(([, reason, count]) => [reason, Number(count)]));
}
