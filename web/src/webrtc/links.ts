// What `Link` headers name (RFC 8288): where a session is told wishes, and where it tells how it is.
import { within } from "../api/root";

/** Paths of the relay; undefined where it has no such thing. */
export interface Links {
  /** Takes what a listener wishes of the picture. */
  layer: string | undefined;
  /** Server-sent events about the picture. */
  events: string | undefined;
}

export const NO_LINKS: Links = { layer: undefined, events: undefined };

const LAYER = "urn:ietf:params:whep:ext:core:layer";
const EVENTS = "urn:ietf:params:whep:ext:core:server-sent-events";
/** More than any relay says. */
const LONGEST = 8_192;

/** Several headers come as one, joined by commas. `url` is what answered; links are relative to it. */
export function linksOf(header: string | null, url: string): Links {
  const links = { ...NO_LINKS };
  for (const [, target = "", parameters = ""] of (header ?? "").slice(0, LONGEST).matchAll(LINK)) {
    const [, quoted, bare] = REL.exec(parameters) ?? [];
    const rels = (quoted ?? bare ?? "").split(/\s+/);
    if (rels.includes(LAYER)) links.layer ??= own(target, url);
    if (rels.includes(EVENTS)) links.events ??= own(target, url);
  }
  return links;
}

const LINK = /<([^<>]*)>((?:"[^"]*"|[^"<])*)/g;
const REL = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))/i;

/** The path, if it is one of the relay that answered: a page may ask no other (its CSP). */
function own(target: string, url: string): string | undefined {
  try {
    const base = new URL(url || "/", "http://relay/");
    const link = new URL(target, base);
    return link.origin === base.origin ? within(link.pathname + link.search) : undefined;
  } catch {
    return undefined;
  }
}
