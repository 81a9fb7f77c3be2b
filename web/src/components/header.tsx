// The bar on top of each page: where we are.

import type { ComponentChildren } from "preact";
import { root } from "../api/root";
import { ThemeButton } from "./theme-button";

export function Header({
  zone,
  page,
  children,
}: {
  zone: string | undefined;
  page?: string;
  children?: ComponentChildren;
}) {
  return (
    <header class="bar">
      <a class="mark" href={root}>
        <svg viewBox="0 0 40 24" aria-hidden="true">
          <rect x="1" y="8" width="5" height="8" rx="2.5" />
          <rect x="10" y="3" width="5" height="18" rx="2.5" />
          <rect x="19" y="0" width="5" height="24" rx="2.5" />
          <rect x="28" y="5" width="5" height="14" rx="2.5" />
        </svg>
        <span>PeddleNet</span>
        {page && <span class="page">{page}</span>}
      </a>
      {page && <h1 class="unseen">{page}</h1>}
      {children}
      {zone && (
        <span class="zone">
          <span class="quiet">zone</span> {zone}
        </span>
      )}
      <ThemeButton />
    </header>
  );
}
