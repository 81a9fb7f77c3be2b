import { describe, expect, it } from "vitest";
import { mediaPorts, restartFragment, sentCodecs, sentKinds, withOpus, withRestart } from "../../src/webrtc/sdp";

const OFFER = [
  "v=0",
  "o=- 1 2 IN IP4 127.0.0.1",
  "s=-",
  "t=0 0",
  "a=group:BUNDLE 0 1",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111 63",
  "a=ice-ufrag:abcd",
  "a=ice-pwd:secretsecretsecretsecret",
  "a=candidate:1 1 udp 1 192.0.2.1 4000 typ host",
  "a=mid:0",
  "a=recvonly",
  "a=rtpmap:111 opus/48000/2",
  "a=fmtp:111 minptime=10;useinbandfec=1",
  "a=rtpmap:63 red/48000/2",
  "a=fmtp:63 111/111",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "a=ice-ufrag:abcd",
  "a=ice-pwd:secretsecretsecretsecret",
  "a=mid:1",
  "a=recvonly",
  "a=rtpmap:96 VP8/90000",
  "",
].join("\r\n");

describe("sdp", () => {
  it("asks for stereo on Opus and touches nothing else", () => {
    const transformed = withOpus(OFFER, { stereo: 1 });
    expect(transformed).toContain("a=fmtp:111 minptime=10;useinbandfec=1;stereo=1\r\n");
    expect(transformed.replace(";stereo=1", "")).toBe(OFFER);
  });

  it("replaces a parameter instead of saying it twice", () => {
    const twice = withOpus(withOpus(OFFER, { stereo: 0 }), { stereo: 1 });
    expect(twice.match(/stereo=/g)).toHaveLength(1);
    expect(twice).toContain(";stereo=1\r\n");
  });

  it("adds the line when Opus has no parameters", () => {
    const bare = OFFER.replace("a=fmtp:111 minptime=10;useinbandfec=1\r\n", "");
    expect(withOpus(bare, { stereo: 1 })).toContain("a=rtpmap:111 opus/48000/2\r\na=fmtp:111 stereo=1\r\n");
  });

  it("restarts with the bundle's credentials and candidates", () => {
    expect(restartFragment(OFFER)).toBe(
      "a=ice-ufrag:abcd\r\na=ice-pwd:secretsecretsecretsecret\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\n",
    );
  });

  it("puts a restart's answer into the old answer, in every section", () => {
    const renewed = withRestart(
      OFFER,
      "a=ice-ufrag:new1\r\na=ice-pwd:newnewnewnewnewnewnewnew\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:2 1 udp 1 198.51.100.1 5000 typ host\r\n",
    );
    expect(renewed.match(/a=ice-ufrag:new1/g)).toHaveLength(2);
    expect(renewed).toContain("198.51.100.1");
    expect(renewed).not.toContain("192.0.2.1");
    expect(renewed.split("\r\n").filter((line) => line.startsWith("m="))).toHaveLength(2);
  });

  it("keeps the answer when the fragment says nothing", () => {
    expect(withRestart(OFFER, "")).toBe(OFFER);
  });

  it("counts only what the relay really sends", () => {
    const answer = OFFER.replace("a=recvonly", "a=sendonly").replace(/m=video 9/, "m=video 0");
    expect(sentKinds(answer)).toEqual(["audio"]);
    expect(sentKinds(OFFER.replace(/a=recvonly/g, "a=sendonly"))).toEqual(["audio", "video"]);
    expect(sentKinds(OFFER.replace(/a=recvonly/g, "a=inactive"))).toEqual([]);
  });
});

describe("what an answer says", () => {
  const answer = (video: string) =>
    `v=0\r\nm=audio 9 X 111\r\na=sendonly\r\na=candidate:1 1 udp 2 10.0.0.5 8080 typ host\r\na=candidate:2 1 udp 1 fd00::5 8080 typ host\r\n` +
    `a=candidate:3 1 udp 1 10.0.0.5 8080 typ host\r\na=rtpmap:111 opus/48000/2\r\nm=video ${video} X 96 97\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n`;

  it("are the codecs of the lines that live", () => {
    expect(sentCodecs(answer("9"))).toEqual(["opus", "vp8"]);
    expect(sentCodecs(answer("0"))).toEqual(["opus"]);
    expect(sentCodecs(answer("9").replaceAll("sendonly", "inactive"))).toEqual([]);
  });

  it("is where media goes, each place once", () => {
    expect(mediaPorts(answer("9"))).toEqual([
      { address: "10.0.0.5", port: "8080" },
      { address: "fd00::5", port: "8080" },
    ]);
    expect(mediaPorts("")).toEqual([]);
  });
});
