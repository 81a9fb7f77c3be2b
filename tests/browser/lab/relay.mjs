// A relay on a host of the lab, and what is published there.
import { join } from "node:path";
import { until } from "../src/until.mjs";
import { film } from "./films.mjs";
import { program } from "./lab.mjs";
import { SOUND } from "./ladder.mjs";

/** Starts a relay, bridged to these addresses. It is there once it answers. `more` are further flags. */
export async function startRelay(lab, host, data, peers = [], more = []) {
  const flags = ["--dev", "--log", "warn", "--zone", host, "--data", join(data, host), ...more];
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

/** The sound of a stage where only its rate matters. */
const TONE = ["--tone", "440"];
/** Stereo that changes: what is made up of it is no sine. */
export const MUSIC = ["--demo"];

/**
 * A stage goes on air at the relay of a host, with sound, and a picture if there are encodings. It is there once it is
 * known with all its encodings. Gives the program that publishes.
 */
export async function publish(lab, host, stream, encodings, more = [], sound = TONE) {
  const films = encodings.map(film).join(",");
  const rids = encodings.map(({ rid }) => rid).join(",");
  const args = ["publish", `http://127.0.0.1:8080/whip/${stream}`, ...sound, "--bitrate", `${SOUND * 1000}`];
  const picture = encodings.length > 0 ? ["--encodings", films, "--rids", rids] : [];
  const publisher = lab.spawn(host, program("signaling-client"), [...args, ...picture, ...more]);
  await onAir(lab, host, stream, encodings);
  return publisher;
}

/** Waits until a relay knows a stream with these encodings, and how dear and large they are. No size is known of AV1. */
export async function onAir(lab, host, stream, encodings) {
  const sized = encodings.every(({ codec }) => codec !== "av1");
  await until(`${stream} is on air at ${host}`, 30_000, async () => {
    const streams = await lab.get(host, "/api/v1/streams");
    const found = streams.find(({ name }) => name === stream);
    if (encodings.length === 0) return found !== undefined;
    const there = found?.encodings ?? [];
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
