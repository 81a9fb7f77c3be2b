// Going on air: under which name; and how it goes once it does.
import { codecName, spoken } from "../api/names";
import { duration } from "../device/time";
import { useOnAir } from "../hooks/on-air";
import type { Publication } from "../hooks/publication";
import { hints } from "../mesh/health";
import type { Outgoing } from "../webrtc/encodings";
import type { State } from "../webrtc/session";
import type { Publisher, Uplink } from "../webrtc/whip";

export function Air({ publication }: { publication: Publication }) {
  const { publisher, state, stop } = publication;
  return (
    <section class={publisher ? "air live" : "air"} aria-label="On air">
      {publisher ? <OnAir publisher={publisher} state={state} onStop={stop} /> : <GoLive publication={publication} />}
    </section>
  );
}

function GoLive({ publication }: { publication: Publication }) {
  const { plan, change, blocked, nameFault, start } = publication;
  const submit = (event: Event) => {
    event.preventDefault();
    start();
  };
  return (
    <form onSubmit={submit}>
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
        <small class={nameFault ? "bad" : "quiet"}>{nameFault ?? `Listeners see “${spoken(plan.name)}”.`}</small>
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
      <p class="quiet small">Stereo at 256 kbit/s, without echo cancellation, noise suppression or gain control.</p>
    </form>
  );
}

function OnAir({ publisher, state, onStop }: { publisher: Publisher; state: State; onStop(): void }) {
  const { status, stream, elapsedMs, uplink } = useOnAir(publisher, state);
  return (
    <div class={`on-air ${status.tone}`}>
      <p class="status" role="status" aria-live="polite">
        <span class="dot" aria-hidden="true" />
        {status.text}
      </p>
      {status.note && <p class="note">{status.note}</p>}
      {(stream?.cannot_play ?? []).map(({ codec, listeners }) => (
        <p class="note" key={codec}>
          {listeners === 1 ? "One listener in this zone cannot" : `${listeners} listeners in this zone cannot`}
          {" play "}
          {codecName(codec)}.{codec === "vp8" || codec === "opus" ? "" : " VP8 plays in every browser."}
        </p>
      ))}
      <h1>{spoken(publisher.stream)}</h1>
      {/* biome-ignore lint/a11y/useAriaPropsSupportedByRole: some screen readers say it all the same. */}
      <p class="elapsed" aria-label="Time on air">
        {elapsedMs === undefined ? "–" : duration(elapsedMs)}
      </p>
      <Figures uplink={uplink} listeners={stream?.listeners ?? 0} />
      <Heard zones={stream?.heard_in ?? []} />
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

function Figures({ uplink, listeners }: { uplink: Uplink | undefined; listeners: number }) {
  const { kbps, roundTripMs, loss, encodings = [] } = uplink ?? {};
  return (
    <dl>
      <div>
        <dt>Going out</dt>
        <dd>{kbps === undefined ? "–" : `${kbps} kbit/s`}</dd>
      </div>
      <div>
        <dt>Round trip</dt>
        <dd>{roundTripMs === undefined ? "–" : `${roundTripMs.toFixed(roundTripMs < 10 ? 1 : 0)} ms`}</dd>
      </div>
      <div>
        <dt>Loss</dt>
        <dd>{loss === undefined ? "–" : `${(loss * 100).toFixed(1)} %`}</dd>
      </div>
      <div>
        <dt>Listeners in this zone</dt>
        <dd>{listeners}</dd>
      </div>
      {encodings.length > 0 && <Encodings encodings={encodings} />}
    </dl>
  );
}

function Encodings({ encodings }: { encodings: readonly Outgoing[] }) {
  return (
    <div class="encodings">
      <dt>{encodings.length === 1 ? "Picture" : `Picture in ${encodings.length} encodings`}</dt>
      {encodings.map(({ rid, width, height, kbps, paused }) => (
        <dd key={rid}>
          <span>{width && height ? `${width} × ${height}` : "–"}</span>
          {paused ? <span class="quiet">not sent now</span> : <span>{kbps} kbit/s</span>}
        </dd>
      ))}
    </div>
  );
}

function Heard({ zones }: { zones: readonly string[] }) {
  return (
    <p class="heard">
      <span class="quiet">Heard in zones: </span>
      {zones.length === 0
        ? "none yet"
        : zones.map((zone) => (
            <span class="chip" key={zone}>
              {zone}
            </span>
          ))}
    </p>
  );
}
