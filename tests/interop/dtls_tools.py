"""The command-line tools of OpenSSL and GnuTLS as DTLS peers, with what they offer by default: devices and
servers are built with these libraries. A small ICE agent stands between them and the relay."""

import hashlib
import hmac
import os
import re
import socket
import struct
import subprocess
import threading
import time

from festival import delete, post_offer, until, Failed

MAGIC = 0x2112A442
UFRAG, PASSWORD = "tool", "password-of-the-tool-here"


def test_openssl_by_default(festival):
    return connects(festival, "openssl-default", "ec", openssl)


def test_openssl_with_rsa(festival):
    return connects(festival, "openssl-rsa", "rsa", openssl)


def test_gnutls_by_default(festival):
    return connects(festival, "gnutls-default", "ec", gnutls)


def test_gnutls_with_rsa(festival):
    return connects(festival, "gnutls-rsa", "rsa", gnutls)


def test_gnutls_whose_agent_answers_no_check(festival):
    return connects(festival, "gnutls-silent", "rsa", gnutls, answers=False)


def openssl(port, key, certificate):
    return [
        "openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}", "-use_srtp", "SRTP_AES128_CM_SHA1_80",
        "-cert", certificate, "-key", key,
    ]  # fmt: skip


def gnutls(port, key, certificate):
    return [
        "gnutls-cli", "--udp", "--insecure", "--srtp-profiles", "SRTP_AES128_CM_HMAC_SHA1_80",
        "--x509certfile", certificate, "--x509keyfile", key, "--port", str(port), "127.0.0.1",
    ]  # fmt: skip


def connects(festival, stream, kind, tool, answers=True):
    """Publishes nothing, but as a publisher who has connected: the relay has its keys and lists the stream."""
    key, certificate, fingerprint = make_certificate(festival.directory.name, kind)
    status, location, answer = post_offer(f"{festival.stage}/whip/{stream}", offer(fingerprint))
    if status != 201:
        raise Failed(f"WHIP answered {status}: {answer}")
    agent = Agent(answer, answers)
    began = time.monotonic()
    try:
        agent.check()
        festival.start(f"{tool.__name__} {stream}", tool(agent.port, key, certificate))
        festival.live(stream, festival.stage)
        took = time.monotonic() - began
        if agent.asked == 0:
            raise Failed("the relay asked nothing of a new address")
    except Failed as error:
        raise Failed(f"{error}\n{festival.log(f'{tool.__name__} {stream}')}") from error
    finally:
        agent.close()
        delete(festival.stage + location)
    return {"connected_ms": round(took * 1000), "checks_of_the_relay": agent.asked}


def make_certificate(directory, kind):
    """A key, its self-signed certificate and what an offer calls it by."""
    key, certificate = (os.path.join(directory, f"{kind}.{end}") for end in ("key", "crt"))
    if not os.path.exists(certificate):
        how = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command = ["openssl", "req", "-x509", "-nodes", *how, "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=tool"]
        subprocess.run(command, check=True, capture_output=True)
    der = subprocess.run(["openssl", "x509", "-in", certificate, "-outform", "DER"], check=True, capture_output=True).stdout
    return key, certificate, ":".join(f"{octet:02X}" for octet in hashlib.sha256(der).digest())


def offer(fingerprint):
    lines = [
        "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=mid:0", "a=sendonly", "a=rtcp-mux",
        f"a=ice-ufrag:{UFRAG}", f"a=ice-pwd:{PASSWORD}", f"a=fingerprint:sha-256 {fingerprint}", "a=setup:active",
        "a=rtpmap:111 opus/48000/2",
    ]  # fmt: skip
    return "\r\n".join(lines) + "\r\n"


class Agent:
    """Checks the relay, answers its checks, and passes everything else to the tool behind its other port."""

    def __init__(self, answer, answers):
        find = lambda name: re.search(rf"a={name}:(\S+)", answer)[1]  # noqa: E731
        self.username, self.password = f"{find('ice-ufrag')}:{UFRAG}", find("ice-pwd")
        host, port = re.search(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", answer).groups()
        self.relay = (host, int(port))
        self.outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outside.bind(("127.0.0.1", 0))
        self.inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inside.bind(("127.0.0.1", 0))
        self.port = self.inside.getsockname()[1]
        self.answers, self.asked, self.tool = answers, 0, None
        self.checked, self.closed = threading.Event(), False
        for task in (self.from_relay, self.from_tool):
            threading.Thread(target=task, daemon=True).start()

    def check(self):
        """Nominates this address, again until the relay replies."""
        attributes = attribute(6, self.username.encode()) + attribute(0x24, struct.pack(">I", 1)) + attribute(0x25, b"")
        attributes += attribute(0x802A, b"\1" * 8)

        def once():
            self.outside.sendto(signed(1, os.urandom(12), attributes, self.password), self.relay)
            return self.checked.wait(0.2)

        until("a check is answered", 5, once)

    def from_relay(self):
        while not self.closed:
            data = self.receive(self.outside)[0]
            if data[:2] == b"\0\1":
                self.asked += 1
                if self.answers:
                    self.outside.sendto(signed(0x101, data[8:20], b"", PASSWORD), self.relay)
            elif data[:2] == b"\1\1":
                self.checked.set()
            elif data and self.tool:
                self.inside.sendto(data, self.tool)

    def from_tool(self):
        while not self.closed:
            data, tool = self.receive(self.inside)
            if data:
                self.tool = tool
                self.outside.sendto(data, self.relay)

    def receive(self, sock):
        try:
            return sock.recvfrom(4096)
        except OSError:
            return b"", None

    def close(self):
        self.closed = True
        # Wakes the two that wait.
        for sock in (self.outside, self.inside):
            sock.sendto(b"", sock.getsockname())


def attribute(number, value):
    return struct.pack(">HH", number, len(value)) + value + bytes(-len(value) % 4)


def signed(kind, transaction, attributes, password):
    """A STUN message with MESSAGE-INTEGRITY (RFC 8489 section 14.5)."""
    head = struct.pack(">HHI", kind, len(attributes) + 24, MAGIC) + transaction
    return head + attributes + attribute(8, hmac.new(password.encode(), head + attributes, hashlib.sha1).digest())
