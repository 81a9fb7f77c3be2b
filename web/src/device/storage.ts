// What a page remembers of the person using it: in this browser only, and never needed to work.

function of(storage: () => Storage) {
  return {
    get(key: string): string | undefined {
      try {
        return storage().getItem(`peddlenet.${key}`) ?? undefined;
      } catch {
        return undefined; // Storage is switched off.
      }
    },
    set(key: string, value: string | undefined): void {
      try {
        if (value === undefined) storage().removeItem(`peddlenet.${key}`);
        else storage().setItem(`peddlenet.${key}`, value);
      } catch {
        // Full or switched off: then it is not remembered.
      }
    },
  };
}

/** Survives closing the browser. */
export const lasting = of(() => localStorage);
/** Survives a reload of this tab. */
export const tab = of(() => sessionStorage);
