// A hook on its own: a component that draws nothing, so that no document is needed.
import { createElement, render } from "preact";
import { act } from "preact/test-utils";

export interface Staged<Props, Result> {
  /** What the hook gave when it ran last. */
  readonly now: Result;
  /** Runs it with other properties, and its effects. */
  set(props: Props): Promise<void>;
  /** Does something to it from outside, and lets what follows from it happen. */
  act(what: () => unknown): Promise<void>;
  end(): Promise<void>;
}

export async function stage<Props, Result>(
  hook: (props: Props) => Result,
  props: Props,
): Promise<Staged<Props, Result>> {
  const parent = { childNodes: [] } as unknown as Element;
  let now: Result;
  const Actor = (latest: { props: Props }) => {
    now = hook(latest.props);
    return null;
  };
  const set = (next: Props) => act(async () => render(createElement(Actor, { props: next }), parent));
  await set(props);
  return {
    get now() {
      return now;
    },
    set,
    act: (what) =>
      act(async () => {
        await what();
      }),
    end: () => act(async () => render(null, parent)),
  };
}
