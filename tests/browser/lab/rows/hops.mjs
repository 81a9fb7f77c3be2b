// 1080p at 30 a second over three bridges. What the last relay delivered is counted apart from what the browser showed,
// because a busy machine may not decode it in time.
import { sleep, until } from "../../src/until.mjs";
import { concealed, freezes, grown, kbps } from "../figures.mjs";
import { program } from "../lab.mjs";
import { chain } from "../mesh.mjs";
import { drops, publish } from "../relay.mjs";
import { Viewer } from "../viewer.mjs";

const HOSTS = ["a", "b", "c", "d"];
const LAST = HOSTS.at(-1);
const WIRE = { delay_ms: 10, queue_ms: 200, rate_bps: 20_000_000 };
/** All of the picture is seen, and no pixel more is drawn. */
const PAGE = { width: 1920, height: 1080, scale: 1 };

export function hops(check, { browser = "chromium", codec = "vp8", kbit = 5_000, seconds = 60 } = {}) {
  const encodings = [{ rid: "f", width: 1920, height: 1080, kbps: kbit, codec }];
  return chain(HOSTS, WIRE, async (lab) => {
    await publish(lab, HOSTS[0], "stage", encodings);
    await until(`the stage is known at ${LAST}`, 30_000, async () =>
      (await lab.get(LAST, "/api/v1/streams")).some(({ name, hops }) => name === "stage" && hops === HOSTS.length - 1),
    );
    const viewer = await Viewer.launch(lab, LAST, browser);
    await viewer.open("http://127.0.0.1:8080/?stream=stage", "one", PAGE);
    await viewer.connected();
    await sleep(10_000);
    await viewer.take();
    // It decodes no picture: it says what came.
    const address = "http://127.0.0.1:8080/whep/stage";
    const listener = lab.spawn(LAST, program("signaling-client"), ["listen", address, "--seconds", String(seconds)]);
    const shedBefore = await shed(lab);
    const from = Date.now();
    await sleep(seconds * 1000);
    const to = Date.now();
    const { pictures, statistics } = await viewer.take();
    const left = (await shed(lab)) - shedBefore;
    await listener.ended;
    const { video, lost: soundLost } = JSON.parse(listener.text.slice(listener.text.indexOf("{")));
    await viewer.close();
    const name = `${browser}, ${codec.toUpperCase()}, 1080p30, ${HOSTS.length - 1} hops`;
    const of = (what) => grown(statistics, what, from, to);
    const shown = pictures.filter(([at]) => at >= from && at <= to);
    const frozen = freezes(pictures, from, to);
    const height = shown.at(-1)?.[2] ?? 0;
    const delivered = video?.seen?.freezes_200_ms;
    check(`${name}: height`, height, 1080, height === 1080, { fact: true });
    check(`${name}: packets lost on the way to the browser`, of("lost"), "0", of("lost") === 0);
    check(`${name}: packets lost on the way to a listener beside it`, video?.lost, "0", video?.lost === 0);
    check(`${name}: packets that a bridge shed`, left, "0", left === 0);
    check(`${name}: times of 200 ms in which the relay delivered no picture`, delivered, "0", delivered === 0);
    check(`${name}: frozen in the browser`, `${frozen.all} ms`, "0 ms", frozen.all === 0);
    return [
      {
        what: name,
        freeze: `${frozen.longest} / ${frozen.all} ms`,
        shown: shown.length,
        decoded: of("decoded"),
        received: of("frames"),
        lost: of("lost"),
        "the relay delivered": `${video?.frames} pictures, ${delivered} gaps of 200 ms, sound lost ${soundLost}`,
        concealed: `${concealed(statistics, from, to).toFixed(2)} %`,
        kbps: kbps(statistics, from, to),
      },
    ];
  });
}

/** Packets of pictures that a bridge had no room for, on all of the way. */
async function shed(lab) {
  let sum = 0;
  for (const host of HOSTS)
    for (const [reason, count] of await drops(lab, host)) sum += reason.startsWith("bridge_shed") ? count : 0;
  return sum;
}
