import { describe, expect, it } from "vitest";
import { linksOf, NO_LINKS } from "../../src/webrtc/links";

const LAYER = 'rel="urn:ietf:params:whep:ext:core:layer"';
const EVENTS = 'rel="urn:ietf:params:whep:ext:core:server-sent-events"; events="layers,quality"';
const BOTH = { layer: "/whep/a/s/layer", events: "/whep/a/s/events" };

describe("links", () => {
  it("are found among others, whatever commas are in them", () => {
    const header = `</api/v1/sessions/s>; rel="status", </whep/a/s/layer>; ${LAYER}, </whep/a/s/events>; ${EVENTS}`;
    expect(linksOf(header, "http://10.0.0.2/whep/a")).toEqual(BOTH);
    const turned = `</whep/a/s/events>; events="layers,quality"; ${EVENTS}, </whep/a/s/layer>;${LAYER}`;
    expect(linksOf(turned, "http://10.0.0.2/whep/a")).toEqual(BOTH);
  });

  it("are relative to what answered", () => {
    expect(linksOf(`<a/s/layer>; ${LAYER}`, "http://10.0.0.2/live/whep/a").layer).toBe("/live/whep/a/s/layer");
    expect(linksOf(`<http://10.0.0.2/x>; ${LAYER}`, "http://10.0.0.2/whep/a").layer).toBe("/x");
    expect(linksOf(`</events?only=quality>; ${EVENTS}`, "").events).toBe("/events?only=quality");
  });

  it("lead to no other host", () => {
    for (const target of ["http://elsewhere/x", "//elsewhere/x", "javascript:alert(1)", "http://["]) {
      expect(linksOf(`<${target}>; ${LAYER}`, "http://10.0.0.2/whep/a")).toEqual(NO_LINKS);
    }
  });

  it("are not there at an older relay, nor in nonsense", () => {
    for (const header of [null, "", "</s>; rel=status", "<", `<x; ${LAYER}`, '<x>; rel="', `${"<".repeat(100_000)}`]) {
      expect(linksOf(header, "http://10.0.0.2/")).toEqual(NO_LINKS);
    }
  });

  it("may have several relations, and the first of a kind holds", () => {
    const header =
      '</one>; rel="status urn:ietf:params:whep:ext:core:layer", </two>; rel=urn:ietf:params:whep:ext:core:layer';
    expect(linksOf(header, "http://10.0.0.2/").layer).toBe("/one");
    expect(linksOf(header.slice(header.indexOf("</two>")), "http://10.0.0.2/").layer).toBe("/two");
  });
});
