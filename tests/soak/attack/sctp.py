"""Chunks of SCTP that are malformed, and messages of DCEP of one octet, after a real handshake."""

import asyncio
import os
import struct

import google_crc32c

from .ground import NO_ANSWER, failure, listener

DCEP = 50


def chunk(kind, body=b"", flags=0, length=None):
    """A chunk whose length may be a lie."""
    return struct.pack(">BBH", kind, flags, 4 + len(body) if length is None else length) + body + b"\0" * (-len(body) % 4)


def parameter(kind, body=b"", length=None):
    return struct.pack(">HH", kind, 4 + len(body) if length is None else length) + body


START = struct.pack(">IIHHI", 7, 65536, 1024, 1024, 7)
# By RFC 9260 and its extensions: each kind of chunk, too short, too long, or with a list that ends elsewhere.
CHUNKS = [
    chunk(9, parameter(1, b"", 500)), chunk(9, parameter(2, b"\1", 3)), chunk(9, b"\0"), chunk(9, b"", length=0),
    chunk(0), chunk(0, b"\0" * 11, 3), chunk(0, struct.pack(">IHHI", 1, 0, 0, 51), 3), chunk(0, os.urandom(12), 3, 60000),
    chunk(1), chunk(1, START[:9]), chunk(1, START + parameter(0x8008, b"", 0)), chunk(1, START + parameter(7, b"x" * 8, 2)),
    chunk(2), chunk(2, START), chunk(2, START + parameter(7, b"", 65535)),
    chunk(3), chunk(3, struct.pack(">IIHH", 1, 0, 65535, 65535)), chunk(3, struct.pack(">IIHHHH", 0xFFFFFFFF, 0, 1, 0, 9, 1)),
    chunk(4), chunk(4, parameter(1, b"", 9000)), chunk(5), chunk(5, parameter(1, b"", 1)), chunk(7), chunk(8, b"\1\2"),
    chunk(10), chunk(10, os.urandom(64)), chunk(11), chunk(14), chunk(192), chunk(192, struct.pack(">I", 0xFFFFFFFF) + b"\0\1"),
    chunk(130), chunk(130, parameter(13, b"\0\0\0\1")), chunk(130, parameter(13, os.urandom(12), 40)), chunk(130, parameter(16)),
    chunk(64), chunk(64, os.urandom(15), 3), chunk(194, b"\0\0\0\1\0"), chunk(63, b"", length=1), chunk(255, b"", length=65535),
    b"", b"\0", b"\0\0\0", os.urandom(900),
]  # fmt: skip
# These end the association, so they come last.
LAST = [chunk(6, parameter(3, b"", 300)), chunk(6, b"\0", length=5)]
# DATA_CHANNEL_OPEN has 12 octets at least (RFC 8832).
MESSAGES = [bytes([octet]) for octet in (0, 1, 2, 3, 4, 255)] + [
    b"\3\0", b"\3\0\0\0\0\0\0\0\0\0\0", struct.pack(">BBHIHH", 3, 0, 0, 0, 65535, 65535), struct.pack(">BBHIHH", 3, 0x82, 0, 1, 4, 0) + b"ab",
]  # fmt: skip


async def send_chunk(sctp, body, checksum=True):
    head = struct.pack(">HHI", sctp._local_port, sctp._remote_port, sctp._remote_verification_tag)
    crc = google_crc32c.value(head + b"\0\0\0\0" + body) if checksum else 7
    await sctp.transport._send_data(head + struct.pack("<I", crc) + body)


async def attack(target, pace, tally):
    turn = 0
    while True:
        turn += 1
        try:
            async with listener(target, f"127.0.0.{10 + turn % 10}", channel=True) as (connection, _):
                sctp = connection.sctp
                async with asyncio.timeout(5):
                    while sctp._association_state != sctp.State.ESTABLISHED:
                        await asyncio.sleep(0.02)
                for stream, message in enumerate(MESSAGES):
                    await sctp._send(101 + 2 * stream, DCEP, message)
                    tally["DCEP messages"] += 1
                for body in CHUNKS + LAST:
                    await send_chunk(sctp, body, checksum=turn % 5 > 0)
                    tally["chunks"] += 1
                    await pace.rest(0.01)
                tally["sessions"] += 1
        except NO_ANSWER as error:
            tally[failure(error)] += 1
        await pace.rest(1)
