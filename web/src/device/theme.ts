// Dark for the field at night, light for the sun: as the device is set, until somebody chooses here.
import { lasting } from "./storage";

/** Browsers keep what was chosen under its first name. */
const KEY = "face";

export type Theme = "dark" | "light";

/** The ground of each, for the browser's own bars; the same as in style/theme.css. */
const GROUNDS: Record<Theme, string> = { dark: "#0c0b0f", light: "#f3efe6" };

/** What was chosen in this browser, or else what the device is set to. */
export function themeOf(chosen: string | undefined, deviceIsLight: boolean): Theme {
  if (chosen === "dark" || chosen === "light") return chosen;
  return deviceIsLight ? "light" : "dark";
}

const device = () => window.matchMedia?.("(prefers-color-scheme: light)");
export const theme = (): Theme => themeOf(lasting.get(KEY), device()?.matches ?? false);

export function choose(next: Theme): void {
  // Choosing what the device says anyway is following it again.
  lasting.set(KEY, next === themeOf(undefined, device()?.matches ?? false) ? undefined : next);
  show();
}

export function show(): void {
  const now = theme();
  document.documentElement.dataset.theme = now;
  for (const meta of document.querySelectorAll<HTMLMetaElement>("meta[name=theme-color]")) meta.content = GROUNDS[now];
}

/** Shows what the device, at dusk, changes its mind to. */
export function follow(onChange: () => void): void {
  device()?.addEventListener?.("change", () => {
    show();
    onChange();
  });
}
