// The organizer's form: write, look at it once more, tell every zone. What was sent stays readable below.
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "../api/problem";
import type { Mesh, Message } from "../api/types";
import { lasting, tab } from "../device/storage";
import { clock } from "../device/time";
import { otherAreas, reach } from "../mesh/health";
import type { KnownRelay } from "../mesh/known-relays";
import { announce, isLong } from "../rooms/announcements";
import { AUTHOR_MAX, nonce, TEXT_MAX } from "../rooms/room";

type Step =
  | { at: "write" }
  | { at: "confirm"; nonce: string }
  | { at: "sending"; nonce: string }
  | { at: "failed"; nonce: string; problem: Problem }
  | { at: "sent"; where: "here" | "mesh"; when: Date };

/** A double tap on the first step's button must not be the second step's too. */
const ARM_MS = 700;

/** What the relay says is for who writes clients. */
const TOKEN_WORDS: Record<number, string> = {
  401: "This relay wants its publish token. Who runs the zone's relay has it.",
  403: "This relay has another publish token. Who runs the zone's relay has the right one.",
};

export function Announce({
  mesh,
  gone,
  onSent,
}: {
  mesh: Mesh | undefined;
  gone: readonly KnownRelay[];
  onSent(): void;
}) {
  const [author, setAuthor] = useState(() => lasting.get("organizer") ?? "");
  const [text, setText] = useState("");
  const [token, setToken] = useState(() => tab.get("token") ?? "");
  const [step, setStep] = useState<Step>({ at: "write" });
  const top = useRef<HTMLHeadingElement>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const previous = useRef(step.at);
  const [armed, setArmed] = useState(false);

  useEffect(() => {
    // What is read next has to be where the keyboard and the screen reader are.
    const was = previous.current;
    previous.current = step.at;
    if (was === step.at || step.at === "sending") return;
    if (step.at === "write") field.current?.focus();
    else top.current?.focus();
  }, [step.at]);

  useEffect(() => {
    setArmed(false);
    if (step.at !== "confirm") return;
    const timer = setTimeout(() => setArmed(true), ARM_MS);
    return () => clearTimeout(timer);
  }, [step.at]);

  const send = async (nonce: string) => {
    setStep({ at: "sending", nonce });
    try {
      const { saved } = await announce(author.trim(), text.trim(), nonce, token || undefined);
      lasting.set("organizer", author.trim());
      tab.set("token", token || undefined);
      setStep({ at: "sent", where: saved, when: new Date() });
      setText("");
      onSent();
    } catch (error) {
      setStep({
        at: "failed",
        nonce,
        problem: error instanceof Problem ? error : new Problem(0, "The relay's answer could not be read."),
      });
    }
  };

  if (step.at === "write") {
    return (
      <form
        class="announce"
        onSubmit={(event) => {
          event.preventDefault();
          // Blanks alone pass for something with the browser.
          if (text.trim() === "") field.current!.focus();
          else if (author.trim() !== "") setStep({ at: "confirm", nonce: nonce() });
        }}
      >
        <label class="field">
          <span>From</span>
          <input
            name="organizer"
            value={author}
            maxLength={AUTHOR_MAX}
            required
            autocomplete="organization-title"
            placeholder="Festival office"
            onInput={(event) => setAuthor(event.currentTarget.value)}
          />
        </label>
        <label class="field">
          <span>What everybody should know</span>
          <textarea
            ref={field}
            name="announcement"
            value={text}
            maxLength={TEXT_MAX}
            required
            rows={3}
            dir="auto"
            placeholder="What happened, what to do, until when"
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <TokenField token={token} onToken={setToken} />
        <button type="submit" class="wide go">
          Look at it once more
        </button>
      </form>
    );
  }

  if (step.at === "sent") {
    return (
      <div class="announce" role="status">
        <h3 ref={top} tabIndex={-1}>
          Sent at {step.when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}
        </h3>
        <p>
          {step.where === "mesh"
            ? "It is on its way over every link, and another relay has stored it too."
            : "Only this relay has stored it so far. The other zones get it as soon as there is a link."}
        </p>
        {mesh && <Reach mesh={mesh} gone={gone} />}
        <button type="button" class="wide ghost" onClick={() => setStep({ at: "write" })}>
          Write another
        </button>
      </div>
    );
  }

  const sending = step.at === "sending";
  const early = step.at === "confirm" && !armed;
  const asksToken = step.at === "failed" && (step.problem.status === 401 || step.problem.status === 403);
  return (
    <div class="announce">
      <h3 ref={top} tabIndex={-1}>
        This goes to every page of every zone, and cannot be taken back
      </h3>
      <article class="announcement">
        <p class="who">
          <b dir="auto">{author.trim()}</b>
        </p>
        <p class="text" dir="auto">
          {text.trim()}
        </p>
      </article>
      {mesh && <Reach mesh={mesh} gone={gone} />}
      {step.at === "failed" && (
        <p class="warning" role="alert">
          Not sent. {asksToken ? TOKEN_WORDS[step.problem.status] : step.problem.message}
        </p>
      )}
      {asksToken && <TokenField token={token} onToken={setToken} />}
      <button
        type="button"
        class="wide go"
        disabled={sending || early}
        aria-busy={sending}
        onClick={() => void send(step.nonce)}
      >
        {sending ? "Sending" : step.at === "failed" ? "Try again" : "Tell everybody"}
      </button>
      <button type="button" class="wide ghost" disabled={sending} onClick={() => setStep({ at: "write" })}>
        Change it
      </button>
    </div>
  );
}

function TokenField({ token, onToken }: { token: string; onToken(token: string): void }) {
  return (
    <label class="field">
      <span>Publish token</span>
      <input
        name="token"
        type="password"
        value={token}
        autocomplete="off"
        placeholder="only if the relay asks for one"
        onInput={(event) => onToken(event.currentTarget.value.trim())}
      />
    </label>
  );
}

/** Whom it reaches now, and who gets it later. */
function Reach({ mesh, gone }: { mesh: Mesh; gone: readonly KnownRelay[] }) {
  const { reached, lost } = reach(mesh, gone);
  const areas = otherAreas(mesh);
  return (
    <p class="quiet">
      Within reach: {reached.join(", ")}
      {areas.length > 0 && `, and the zones of ${areas.length === 1 ? "area" : "areas"} ${areas.join(", ")}`}.
      {lost.length > 0 && ` When their links are back: ${lost.join(", ")}.`}
    </p>
  );
}

/** Lines shown before the rest is asked for. */
const TOLD_SHOWN = 3;

/** What was told so far, the newest first. */
export function Told({ messages }: { messages: readonly Message[] }) {
  const [all, setAll] = useState(false);
  if (messages.length === 0) return <p class="quiet">Nothing announced yet.</p>;
  const newest = [...messages].reverse();
  const more = newest.length > TOLD_SHOWN || newest.some((message) => isLong(message.text));
  return (
    <>
      <ul class="rows told">
        {(all ? newest : newest.slice(0, TOLD_SHOWN)).map((message) => (
          <li key={message.id}>
            <b dir="auto">{message.author}</b>
            <span class="chips">
              {message.clock_ahead && (
                <span class="chip bad" title="More than a minute ahead of this relay's clock">
                  clock ahead
                </span>
              )}
              <span class="chip plain">
                {message.zone}, <time dateTime={message.sent_at}>{clock(message.sent_at)}</time>
              </span>
            </span>
            <span class={all ? "said" : "said folded"} dir="auto">
              {message.text}
            </span>
          </li>
        ))}
      </ul>
      {more && (
        <button type="button" class="wide ghost" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "Show less" : newest.length > TOLD_SHOWN ? `All ${newest.length}, in full` : "In full"}
        </button>
      )}
    </>
  );
}
