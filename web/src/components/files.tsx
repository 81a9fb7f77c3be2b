// The files of a room: a button to give one, how far it has come, and all of them to take away.
import { useEffect, useRef, useState } from "preact/hooks";
import type { SharedFile } from "../api";
import { fileUrl, giveFile, listFiles, size, type Giving } from "../files";
import { tab } from "../memory";
import { Problem } from "../problem";

export function Files({ room, author, news, onHint }: { room: string; author: string; news: number; onHint(hint: string | undefined): void }) {
  const [files, setFiles] = useState<SharedFile[]>([]);
  const [giving, setGiving] = useState<Giving>();
  const [refused, setRefused] = useState<File>();
  const [token, setToken] = useState(() => tab.get("token") ?? "");
  const picker = useRef<HTMLInputElement>(null);

  useEffect(() => {
    let current = true;
    // A list that does not come is made up for by the next piece of news.
    listFiles(room).then((files) => current && setFiles(files.reverse()), () => undefined);
    return () => {
      current = false;
    };
  }, [room, news]);

  const give = async (file: File) => {
    if (author.trim() === "") return onHint("First say who you are.");
    onHint(undefined);
    setRefused(undefined);
    const sending = giveFile(room, file, author.trim(), token || undefined, (share) =>
      setGiving((one) => one && { ...one, share }),
    );
    setGiving({ name: file.name, share: 0, stop: sending.stop });
    try {
      await sending.done;
      if (token) tab.set("token", token);
    } catch (error) {
      const status = error instanceof Problem ? error.status : 0;
      if (status === 401 || status === 403) setRefused(file);
      else onHint(error instanceof Error ? error.message : "The file did not reach the relay.");
    } finally {
      setGiving(undefined);
    }
  };
  const picked = () => {
    const file = picker.current!.files?.[0];
    picker.current!.value = "";
    if (file) void give(file);
  };

  return (
    <div class="files">
      <div class="files-bar">
        <details>
          <summary>{files.length === 0 ? "No files yet" : files.length === 1 ? "1 file" : `${files.length} files`}</summary>
          {files.length > 0 && (
            <ul>
              {files.map((file) => (
                <li key={file.id}>
                  <a href={fileUrl(file)} download={file.name}>
                    {file.name}
                  </a>
                  <span class="quiet">
                    {size(file.bytes)} · {file.from}
                  </span>
                </li>
              ))}
            </ul>
          )}
        </details>
        <input ref={picker} type="file" hidden aria-hidden="true" tabIndex={-1} onChange={picked} />
        <button type="button" class="give" disabled={giving !== undefined} onClick={() => picker.current!.click()}>
          Give a file
        </button>
      </div>
      {giving && (
        <div class="giving">
          <span class="name">{giving.name}</span>
          <progress value={giving.share} max={1} aria-label={`Sending ${giving.name}`} />
          <button type="button" onClick={giving.stop}>
            Stop
          </button>
        </div>
      )}
      {refused && (
        <form
          class="token"
          onSubmit={(event) => {
            event.preventDefault();
            event.stopPropagation();
            void give(refused);
          }}
        >
          <label>
            <span>This relay wants the publish token to take files.</span>
            <input name="token" type="password" value={token} autocomplete="off" onInput={(event) => setToken(event.currentTarget.value)} />
          </label>
          <button type="submit">Give it again</button>
        </form>
      )}
    </div>
  );
}
