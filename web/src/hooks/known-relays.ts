// Relays that were in the mesh and are not any more, as this browser remembers them.
import { useEffect, useState } from "preact/hooks";
import type { Mesh } from "../api/types";
import { type KnownRelay, keep, missing, recall, remember } from "../mesh/known-relays";

export interface Missing {
  gone: KnownRelay[];
  /** They were taken down on purpose. */
  forget(): void;
}

export function useKnownRelays(mesh: Mesh | undefined): Missing {
  const [known, setKnown] = useState(recall);
  const change = (next: KnownRelay[]) => {
    keep(next);
    setKnown(next);
  };
  useEffect(() => {
    if (mesh) change(remember(known, mesh, Date.now()));
  }, [mesh]);
  const gone = mesh ? missing(known, mesh) : [];
  return { gone, forget: () => change(known.filter((one) => !gone.includes(one))) };
}
