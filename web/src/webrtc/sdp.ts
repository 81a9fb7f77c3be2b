// The few changes a page makes to session descriptions (RFC 8866), and the fragment an ICE restart
// sends (RFC 8840). What the relay answers is the relay's business.

/** Adds `parameters` to the fmtp of every Opus payload type, replacing those that are there. */
export function withOpus(sdp: string, parameters: Record<string, string | number>): string {
  const lines = sdp.split("\r\n");
  const types = new Set<string>();
  for (const line of lines) {
    const type = /^a=rtpmap:(\d+) opus\/48000/i.exec(line)?.[1];
    if (type !== undefined) types.add(type);
  }
  for (const type of types) {
    const at = lines.findIndex((line) => line.startsWith(`a=fmtp:${type} `));
    const old = at < 0 ? "" : lines[at]!.slice(`a=fmtp:${type} `.length);
    const kept = new Map<string, string>();
    for (const part of old.split(";")) {
      const [name, value] = part.trim().split("=", 2);
      if (name) kept.set(name, value ?? "");
    }
    for (const [name, value] of Object.entries(parameters)) kept.set(name, String(value));
    const fmtp = `a=fmtp:${type} ${[...kept].map(([name, value]) => (value ? `${name}=${value}` : name)).join(";")}`;
    if (at >= 0) lines[at] = fmtp;
    else lines.splice(lines.findIndex((line) => line.startsWith(`a=rtpmap:${type} `)) + 1, 0, fmtp);
  }
  return lines.join("\r\n");
}

/** A description cut into its session part and its media sections. */
function sections(sdp: string): { head: string[]; media: string[][] } {
  const head: string[] = [];
  const media: string[][] = [];
  for (const line of sdp.split(/\r?\n/)) {
    if (line === "") continue;
    if (line.startsWith("m=")) media.push([]);
    (media.at(-1) ?? head).push(line);
  }
  return { head, media };
}

const value = (lines: string[], name: string) =>
  lines.find((line) => line.startsWith(`a=${name}:`))?.slice(name.length + 3);

/** The kinds an answer really sends: not refused with port 0, and in our direction. */
export function sentKinds(answer: string): ("audio" | "video")[] {
  const kinds: ("audio" | "video")[] = [];
  for (const lines of sections(answer).media) {
    const [kind, port] = lines[0]!.slice(2).split(" ");
    const silent = port === "0" || lines.includes("a=inactive") || lines.includes("a=recvonly");
    if (!silent && (kind === "audio" || kind === "video")) kinds.push(kind);
  }
  return kinds;
}

/** The codecs an answer sends, by their API names. */
export function sentCodecs(answer: string): string[] {
  const codecs: string[] = [];
  for (const lines of sections(answer).media) {
    if (lines[0]!.split(" ")[1] === "0" || lines.includes("a=inactive") || lines.includes("a=recvonly")) continue;
    for (const line of lines) {
      const name = /^a=rtpmap:\d+ ([^/]+)\//.exec(line)?.[1]?.toLowerCase();
      if (name && name !== "rtx") codecs.push(name);
    }
  }
  return codecs;
}

/** Whether it offers, or accepts, encodings of a picture by their rids (RFC 8853). */
export const hasSimulcast = (sdp: string) => /^a=simulcast:(send|recv) /m.test(sdp);

/** Where an answer says that the relay takes media. */
export interface Port {
  address: string;
  port: string;
}

/** The candidates of an answer (RFC 8839 section 5.1), each once. */
export function mediaPorts(answer: string): Port[] {
  const ports: Port[] = [];
  for (const [, address, port] of answer.matchAll(/^a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) typ host/gim)) {
    if (!ports.some((one) => one.address === address && one.port === port))
      ports.push({ address: address!, port: port! });
  }
  return ports;
}

/** What PATCH carries to restart ICE: the new credentials and candidates of the bundle (RFC 9725 section 4.3). */
export function restartFragment(offer: string): string {
  const { head, media } = sections(offer);
  const first = media.find((lines) => value(lines, "ice-ufrag")) ?? media[0] ?? [];
  const out = [
    `a=ice-ufrag:${value(first, "ice-ufrag") ?? value(head, "ice-ufrag") ?? ""}`,
    `a=ice-pwd:${value(first, "ice-pwd") ?? value(head, "ice-pwd") ?? ""}`,
  ];
  if (first[0]) out.push(first[0]);
  const mid = value(first, "mid");
  if (mid !== undefined) out.push(`a=mid:${mid}`);
  out.push(...first.filter((line) => line.startsWith("a=candidate:")));
  return `${out.join("\r\n")}\r\n`;
}

/** The old answer with the credentials and candidates of the fragment that answered a restart. */
export function withRestart(answer: string, fragment: string): string {
  const lines = fragment.split(/\r?\n/);
  const ufrag = value(lines, "ice-ufrag");
  const pwd = value(lines, "ice-pwd");
  if (!ufrag || !pwd) return answer;
  const candidates = lines.filter((line) => line.startsWith("a=candidate:"));
  const { head, media } = sections(answer);
  const renewed = (part: string[]) =>
    part.map((line) =>
      line.startsWith("a=ice-ufrag:")
        ? `a=ice-ufrag:${ufrag}`
        : line.startsWith("a=ice-pwd:")
          ? `a=ice-pwd:${pwd}`
          : line,
    );
  const out = renewed(head);
  media.forEach((part, index) => {
    const kept = candidates.length > 0 ? part.filter((line) => !line.startsWith("a=candidate:")) : part;
    const fresh = renewed(kept);
    if (index === 0 && candidates.length > 0) {
      const end = fresh.indexOf("a=end-of-candidates");
      fresh.splice(end < 0 ? fresh.length : end, 0, ...candidates);
    }
    out.push(...fresh);
  });
  return `${out.join("\r\n")}\r\n`;
}
