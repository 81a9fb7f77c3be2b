// Server-sent events that a test sends.
import type { Feed } from "../../src/webrtc/event-feed";

export class FakeFeed implements Feed {
  static all: FakeFeed[] = [];
  readyState = 1;
  onerror: ((event: Event) => unknown) | null = null;
  private readonly listeners: [string, (event: MessageEvent<string>) => void][] = [];

  constructor(readonly url: string) {
    FakeFeed.all.push(this);
  }
  addEventListener(name: string, heard: (event: MessageEvent<string>) => void) {
    this.listeners.push([name, heard]);
  }
  close() {
    this.readyState = 2;
  }
  say(name: string, data: string) {
    for (const [of, heard] of this.listeners) if (of === name) heard({ data } as MessageEvent<string>);
  }
  /** 0: the browser connects again. 2: it does not. */
  fail(readyState: 0 | 2) {
    this.readyState = readyState;
    this.onerror?.(new Event("error"));
  }
}
