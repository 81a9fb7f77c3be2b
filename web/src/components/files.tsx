// The files of a room: what is on its way to the relay, a button to give more, and all to take away.
import { useRef, useState } from "preact/hooks";
import type { SharedFile } from "../api/types";
import { tab } from "../device/storage";
import { clock } from "../device/time";
import { useOutbox } from "../hooks/outbox";
import { useSharedFiles } from "../hooks/shared-files";
import { fileUrl, hasPreview, size } from "../rooms/files";
import { OFFERS_MAX, type Offer, type Outbox } from "../rooms/outbox";

export interface FilesProps {
  room: string;
  /** The relay's: files of other zones say where they are from. */
  zone: string | undefined;
  author: string;
  /** Grows when the list may be another. */
  news: number;
  onHint(hint: string | undefined): void;
  /** Somebody without a name wants to give a file. */
  onNameless(): void;
}

export function Files({ room, zone, author, news, onHint, onNameless }: FilesProps) {
  const [open, setOpen] = useState(false);
  const outbox = useOutbox(room);
  const files = useSharedFiles(room, news, open);
  const picker = useRef<HTMLInputElement>(null);
  const summary = useRef<HTMLElement>(null);

  const give = () => {
    if (author.trim() === "") return onNameless();
    onHint(undefined);
    picker.current!.click();
  };
  const picked = () => {
    const chosen = [...(picker.current!.files ?? [])];
    picker.current!.value = "";
    const over = outbox.offer(chosen, author.trim());
    if (over > 0) onHint(`${OFFERS_MAX} files at a time: ${over} ${over === 1 ? "was" : "were"} left out.`);
  };
  const close = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !open) return;
    setOpen(false);
    summary.current!.focus();
  };
  return (
    <div class="files">
      {outbox.offers.length > 0 && (
        <ul class="offers" aria-label="Files on their way">
          {outbox.offers.map((offer) => (
            <OfferRow key={offer.key} offer={offer} outbox={outbox} />
          ))}
        </ul>
      )}
      <div class="files-bar">
        {files.length === 0 ? (
          <span class="quiet">No files yet</span>
        ) : (
          <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)} onKeyDown={close}>
            <summary ref={summary}>{files.length === 1 ? "1 file" : `${files.length} files`}</summary>
            <ul class="shared">
              {files.map((file) => (
                <li key={file.id}>
                  <SharedRow file={file} zone={zone} />
                </li>
              ))}
            </ul>
          </details>
        )}
        <input ref={picker} type="file" multiple hidden aria-hidden="true" tabIndex={-1} onChange={picked} />
        <button type="button" class="give" onClick={give}>
          Give a file
        </button>
      </div>
    </div>
  );
}

function SharedRow({ file, zone }: { file: SharedFile; zone: string | undefined }) {
  const facts = [
    size(file.bytes),
    `from ${file.from}`,
    file.zone === zone ? "" : file.zone,
    clock(file.sent_at),
  ].filter((fact) => fact !== "");
  return (
    <a class="shared-file" href={fileUrl(file)} download={file.name}>
      {hasPreview(file) ? (
        <img src={fileUrl(file)} alt="" width={48} height={48} loading="lazy" decoding="async" />
      ) : (
        <span class="kind" aria-hidden="true">
          {ending(file.name)}
        </span>
      )}
      <span class="what">
        <bdi class="name">{file.name}</bdi>
        <span class="quiet">
          {facts.map((fact, index) => (
            <span key={index}>
              {index > 0 && " · "}
              <bdi>{fact}</bdi>
            </span>
          ))}
        </span>
      </span>
      <svg viewBox="0 0 24 24" role="img" aria-label="download">
        <path class="stroke" d="M12 4v11m-5-5 5 5 5-5M5 20h14" />
      </svg>
    </a>
  );
}

/** What a file is, in up to four letters. */
function ending(name: string): string {
  const letters = /\.([a-z0-9]{1,4})$/i.exec(name)?.[1];
  return letters?.toLowerCase() ?? "file";
}

function OfferRow({ offer, outbox }: { offer: Offer; outbox: Outbox }) {
  const { key, name, state, problem } = offer;
  const token = state === "refused" && (problem?.status === 401 || problem?.status === 403);
  const stuck = state === "refused" || state === "breaks";
  return (
    <li class={`offer is-${state}${stuck ? " stuck" : ""}`}>
      <bdi class="name">{name}</bdi>
      <span class="acts">
        {stuck && !token && problem?.status !== 413 && (
          <button type="button" onClick={() => outbox.again(key)} aria-label={`Send ${name} again now`}>
            Send again
          </button>
        )}
        <button
          type="button"
          onClick={() => outbox.drop(key)}
          aria-label={state === "refused" ? `Put away ${name}` : `Cancel ${name}`}
        >
          {state === "refused" ? "Put away" : "Cancel"}
        </button>
      </span>
      {(state === "sends" || state === "stores") && (
        <progress value={state === "stores" ? undefined : offer.share} max={1} aria-label={`Sending ${name}`} />
      )}
      <span class="facts" role={stuck ? "alert" : undefined}>
        {words(offer)}
      </span>
      {token && <TokenForm wrong={problem?.status === 403} onToken={() => outbox.allowed()} />}
    </li>
  );
}

function words(offer: Offer): string {
  const { bytes, share, problem } = offer;
  switch (offer.state) {
    case "waits":
      return `${size(bytes)}, waits its turn`;
    case "sends":
      return `${size(bytes * share)} of ${size(bytes)}`;
    case "stores":
      return `${size(bytes)}, the relay is storing it`;
    case "breaks":
      return problem?.status === 0 || problem?.status === 400
        ? "The line broke. It is sent again from the start as soon as the relay answers."
        : `${problem?.title ?? ""} It is sent again by itself.`;
    case "refused":
      if (problem?.status === 401) return "Not sent: this relay wants its publish token to take files.";
      if (problem?.status === 403) return "Not sent: this relay has another publish token.";
      return `Not sent. ${problem?.message ?? ""}`;
  }
}

function TokenForm({ wrong, onToken }: { wrong: boolean; onToken(): void }) {
  const [token, setToken] = useState("");
  return (
    <form
      class="token"
      onSubmit={(event) => {
        event.preventDefault();
        event.stopPropagation();
        tab.set("token", token || undefined);
        onToken();
      }}
    >
      <input
        name="token"
        type="password"
        value={token}
        required
        autocomplete="off"
        aria-label="Publish token"
        aria-invalid={wrong}
        placeholder="Publish token"
        onInput={(event) => setToken(event.currentTarget.value.trim())}
      />
      <button type="submit">Send it</button>
    </form>
  );
}
