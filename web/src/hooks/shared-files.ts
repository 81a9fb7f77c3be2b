// The files of a room, the newest first.
import { useEffect, useState } from "preact/hooks";
import type { SharedFile } from "../api/types";
import { listFiles } from "../rooms/files";

/** `news` grows when the list may be another; opening it (`open`) is worth asking, too. */
export function useSharedFiles(room: string, news: number, open: boolean): SharedFile[] {
  const [files, setFiles] = useState<SharedFile[]>([]);
  useEffect(() => {
    let current = true;
    // A list that does not come is made up for by the next piece of news.
    listFiles(room).then(
      (files) => current && setFiles(files.reverse()),
      () => undefined,
    );
    return () => {
      current = false;
    };
  }, [room, news, open]);
  return files;
}
