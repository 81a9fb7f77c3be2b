// `/publish`: microphone, camera or screen into the mesh, with a meter, and who hears it.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { codecName, getStreams, type Stream, spoken, streamNameFault } from "../api/api";
import { PolledAnnouncements } from "../components/announcements";
import { Header } from "../components/header";
import { LevelMeter } from "../components/level-meter";
import { lasting, tab } from "../device/storage";
import { usePolled, useZone } from "../hooks/polling";
import { hints } from "../mesh/health";
import { type Choice, capture, captureFault, captureProblem, devices, SOURCES, type Source } from "../webrtc/capture";
import type { State } from "../webrtc/session";
import { heldBack, wayOf } from "../webrtc/status";
import { Publisher, type Uplink } from "../webrtc/whip";

const TITLES: Record<Source, string> = { mic: "Sound", camera: "Camera", screen: "Screen" };
const NEWS_MS = 5_000;
const IDLE: State = { phase: "idle", problem: undefined };

interface Plan extends Choice {
  name: string;
  token: string;
}

/** What the address asks for, over what this tab was doing, over what was used last. */
function remembered(): { plan: Plan; auto: boolean } {
  const query = new URLSearchParams(location.search);
  const was = parse(tab.get("live")) ?? parse(lasting.get("plan"));
  const source = query.get("source") ?? was?.source;
  return {
    plan: {
      name: query.get("stream") ?? was?.name ?? "main-stage",
      source: SOURCES.find((known) => known === source) ?? "mic",
      audio: was?.audio ?? "",
      video: was?.video ?? "",
      token: tab.get("token") ?? "",
    },
    auto: query.get("auto") === "1" || tab.get("live") !== undefined,
  };
}

function parse(text: string | undefined): Partial<Plan> | undefined {
  try {
    const value: unknown = text === undefined ? undefined : JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Partial<Plan>) : undefined;
  } catch {
    return undefined;
  }
}

function Publish() {
  const [first] = useState(remembered);
  const [plan, setPlan] = useState(first.plan);
  const [media, setMedia] = useState<MediaStream>();
  const [publisher, setPublisher] = useState<Publisher>();
  const [state, setState] = useState(IDLE);
  const [fault, setFault] = useState<string>();
  const [inputs, setInputs] = useState<{ audio: MediaDeviceInfo[]; video: MediaDeviceInfo[] }>({
    audio: [],
    video: [],
  });
  const preview = useRef<HTMLVideoElement>(null);
  const zone = useZone();
  const blocked = captureFault();
  const nameFault = streamNameFault(plan.name);
  const running = publisher !== undefined;

  const list = () => void devices().then(setInputs);
  useEffect(() => {
    list();
    navigator.mediaDevices?.addEventListener?.("devicechange", list);
    if (first.auto && !blocked && !nameFault && plan.source !== "screen") void start(plan);
  }, []);
  useEffect(() => {
    if (preview.current) preview.current.srcObject = media ?? null;
  }, [media]);
  useEffect(() => {
    if (!publisher) return;
    const leave = () => void publisher.stop(true);
    const check = () => publisher.check();
    const back = (event: PageTransitionEvent) => event.persisted && publisher.start();
    window.addEventListener("pagehide", leave);
    window.addEventListener("pageshow", back);
    window.addEventListener("online", check);
    return () => {
      window.removeEventListener("pagehide", leave);
      window.removeEventListener("pageshow", back);
      window.removeEventListener("online", check);
    };
  }, [publisher]);

  async function open(wanted: Plan): Promise<MediaStream | undefined> {
    setFault(undefined);
    try {
      const opened = await capture(wanted);
      for (const track of media?.getTracks() ?? []) track.stop();
      setMedia(opened);
      list();
      for (const track of opened.getTracks()) {
        track.addEventListener("ended", () =>
          setFault("The input was unplugged or its sharing ended. Stop, choose an input, go live again."),
        );
      }
      return opened;
    } catch (error) {
      setFault(captureProblem(error));
      return undefined;
    }
  }

  async function start(wanted: Plan): Promise<void> {
    const live = media?.getTracks().every((track) => track.readyState === "live") ? media : await open(wanted);
    if (!live) return;
    const { token, ...kept } = wanted;
    lasting.set("plan", JSON.stringify(kept));
    tab.set("live", JSON.stringify(kept));
    tab.set("token", token || undefined);
    const publisher = new Publisher(wanted.name, live, token || undefined, (next) => {
      setState(next);
      // A reload must not repeat what the relay refuses.
      if (next.phase === "refused") tab.set("live", undefined);
    });
    setPublisher(publisher);
    publisher.start();
  }

  function stop(): void {
    tab.set("live", undefined);
    void publisher?.stop();
    setPublisher(undefined);
    setState(IDLE);
    close();
  }

  function close(): void {
    for (const track of media?.getTracks() ?? []) track.stop();
    setMedia(undefined);
  }

  function change(part: Partial<Plan>): void {
    const next = { ...plan, ...part };
    setPlan(next);
    // What is already open is opened anew with the other input.
    if (!media || running || !("source" in part || "audio" in part || "video" in part)) return;
    if (next.source === "screen") close();
    else void open(next);
  }

  return (
    <>
      <Header zone={zone} page="Publish" />
      <PolledAnnouncements everyMs={NEWS_MS} />
      <main class="publish">
        {blocked && (
          <p class="warning" role="alert">
            {blocked}
          </p>
        )}
        <section class="desk" aria-label="Input">
          <div class="sources" role="radiogroup" aria-label="What to publish">
            {SOURCES.map((source) => (
              <label key={source} class={plan.source === source ? "on" : ""}>
                <input
                  type="radio"
                  name="source"
                  value={source}
                  checked={plan.source === source}
                  disabled={running}
                  onChange={() => change({ source })}
                />
                {TITLES[source]}
              </label>
            ))}
          </div>
          <video
            ref={preview}
            class="preview"
            muted
            playsInline
            autoPlay
            hidden={!media || media.getVideoTracks().length === 0}
          />
          <LevelMeter media={media} />
          {fault && (
            <p class="warning" role="alert">
              {fault}
            </p>
          )}
          <Picker
            title="Input"
            open={media?.getAudioTracks()[0]?.label}
            devices={inputs.audio}
            value={plan.audio}
            disabled={running}
            onChange={(audio) => change({ audio })}
          />
          {plan.source === "camera" && (
            <Picker
              title="Camera"
              open={media?.getVideoTracks()[0]?.label}
              devices={inputs.video}
              value={plan.video}
              disabled={running}
              onChange={(video) => change({ video })}
            />
          )}
          {!running && (
            <button
              type="button"
              class="wide ghost"
              disabled={blocked !== undefined}
              onClick={() => void (media ? close() : open(plan))}
            >
              {media ? "Close the input" : "Check the level"}
            </button>
          )}
        </section>
        <section class={running ? "air live" : "air"} aria-label="On air">
          {running && publisher ? (
            <OnAir publisher={publisher} state={state} onStop={stop} />
          ) : (
            <form
              onSubmit={(event) => {
                event.preventDefault();
                if (!nameFault && !blocked) void start(plan);
              }}
            >
              <label class="field">
                <span>Stream name</span>
                <input
                  name="stream"
                  value={plan.name}
                  autocapitalize="none"
                  autocomplete="off"
                  spellcheck={false}
                  aria-invalid={nameFault !== undefined}
                  onInput={(event) => change({ name: event.currentTarget.value.trim() })}
                />
                <small class={nameFault ? "bad" : "quiet"}>
                  {nameFault ?? `Listeners see “${spoken(plan.name)}”.`}
                </small>
              </label>
              <label class="field">
                <span>Publish token</span>
                <input
                  name="token"
                  type="password"
                  value={plan.token}
                  autocomplete="off"
                  placeholder="only if the relay asks for one"
                  onInput={(event) => change({ token: event.currentTarget.value.trim() })}
                />
              </label>
              <button type="submit" class="wide go" disabled={nameFault !== undefined || blocked !== undefined}>
                Go live
              </button>
              <p class="quiet small">
                Stereo at 256 kbit/s, without echo cancellation, noise suppression or gain control.
              </p>
            </form>
          )}
        </section>
      </main>
    </>
  );
}

interface PickerProps {
  title: string;
  devices: MediaDeviceInfo[];
  value: string;
  /** The label of what is open now. */
  open: string | undefined;
  disabled: boolean;
  onChange(id: string): void;
}

function Picker(props: PickerProps) {
  const known = props.devices.some((device) => device.deviceId === props.value);
  return (
    <label class="field">
      <span>{props.title}</span>
      <select
        value={known ? props.value : ""}
        disabled={props.disabled}
        onChange={(event) => props.onChange(event.currentTarget.value)}
      >
        <option value="">The browser's choice{props.open && !known ? `: ${props.open}` : ""}</option>
        {props.devices.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || `${props.title} ${index + 1}`}
          </option>
        ))}
      </select>
    </label>
  );
}

function OnAir({ publisher, state, onStop }: { publisher: Publisher; state: State; onStop(): void }) {
  const [since, setSince] = useState<number>();
  const [now, setNow] = useState(() => performance.now());
  const [uplink, setUplink] = useState<Uplink>();
  const streams = usePolled<Stream[]>(getStreams, 2_000).value;
  const stream = streams?.find((one) => one.name === publisher.stream);
  const missed = useRef(0);
  useEffect(() => {
    // Connected as far as ICE knows, but the relay does not list us twice in a row: it was restarted.
    missed.current = streams && !stream && state.phase === "connected" ? missed.current + 1 : 0;
    if (missed.current === 2) publisher.check();
  }, [streams]);
  useEffect(() => {
    const timer = setInterval(async () => {
      setNow(performance.now());
      setUplink(await publisher.measure(performance.now()));
    }, 1_000);
    return () => clearInterval(timer);
  }, [publisher]);
  useEffect(() => {
    if (state.phase === "connected" && since === undefined) setSince(performance.now());
  }, [state.phase]);

  const live = state.phase === "connected";
  // Since it was asked for, or since it was on air last.
  const waiting = useRef(now);
  if (live) waiting.current = now;
  const stuck = heldBack({
    ...state,
    problem: state.problem?.message,
    ports: publisher.ports,
    waitedMs: now - waiting.current,
    quietMs: undefined,
    listed: undefined,
  });
  const heard = stream?.heard_in ?? [];
  return (
    <div class={`on-air ${live ? "good" : state.phase === "refused" ? "off" : "wait"}`}>
      <p class="status" role="status" aria-live="polite">
        <span class="dot" aria-hidden="true" />
        {stuck ? "The page arrives, the sound does not leave" : line(state)}
      </p>
      {stuck && <p class="note">{wayOf(publisher.ports)}</p>}
      {(stream?.cannot_play ?? []).map(({ codec, listeners }) => (
        <p class="note" key={codec}>
          {listeners === 1 ? "One listener in this zone cannot" : `${listeners} listeners in this zone cannot`} play{" "}
          {codecName(codec)}.{codec === "vp8" || codec === "opus" ? "" : " VP8 plays in every browser."}
        </p>
      ))}
      <h1>{spoken(publisher.stream)}</h1>
      {/* biome-ignore lint/a11y/useAriaPropsSupportedByRole: some screen readers say it all the same. */}
      <p class="elapsed" aria-label="Time on air">
        {since === undefined ? "–" : duration(now - since)}
      </p>
      <dl>
        <div>
          <dt>Going out</dt>
          <dd>{live && uplink ? `${uplink.kbps} kbit/s` : "–"}</dd>
        </div>
        <div>
          <dt>Round trip</dt>
          <dd>
            {live && uplink?.roundTripMs !== undefined
              ? `${uplink.roundTripMs.toFixed(uplink.roundTripMs < 10 ? 1 : 0)} ms`
              : "–"}
          </dd>
        </div>
        <div>
          <dt>Loss</dt>
          <dd>{live && uplink?.loss !== undefined ? `${(uplink.loss * 100).toFixed(1)} %` : "–"}</dd>
        </div>
        <div>
          <dt>Listeners in this zone</dt>
          <dd>{stream?.listeners ?? 0}</dd>
        </div>
      </dl>
      <p class="heard">
        <span class="quiet">Heard in zones: </span>
        {heard.length === 0
          ? "none yet"
          : heard.map((zone) => (
              <span class="chip" key={zone}>
                {zone}
              </span>
            ))}
      </p>
      {hints(stream?.publisher).map((hint) => (
        <p class="quiet" role="note" key={hint}>
          {hint}
        </p>
      ))}
      <button type="button" class="wide stop" onClick={onStop}>
        Stop
      </button>
    </div>
  );
}

function line(state: State): string {
  switch (state.phase) {
    case "connected":
      return "On air";
    case "refused":
    case "waiting":
      return state.problem?.message ?? "The relay refused.";
    case "reconnecting":
      return "Reconnecting: listeners stay for 30 s";
    default:
      return "Connecting";
  }
}

function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  return `${hours > 0 ? `${hours}:` : ""}${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

render(<Publish />, document.getElementById("page")!);
