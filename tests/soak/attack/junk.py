"""Datagrams at the media port that look like STUN, DTLS, RTP and RTCP, or like nothing."""

import os
import random
import socket
import struct

SOURCES = 8


def datagram(kind):
    noise = os.urandom(random.choice((0, 1, 3, 8, 20, 60, 200, 1200, 1472)))
    if kind == 0:
        return noise
    if kind == 1:
        # A check with the name of a session that may be there, and no proof.
        name = b"soak:guess\0\0"
        return struct.pack(">HHI", 1, 4 + len(name), 0x2112A442) + os.urandom(12) + struct.pack(">HH", 6, 10) + name
    if kind == 2:
        return struct.pack(">HHI", 1, 65532, 0x2112A442) + os.urandom(12) + noise
    if kind == 3:
        return b"\x16\xfe\xff" + b"\0" * 8 + struct.pack(">H", len(noise)) + b"\1" + noise
    if kind == 4:
        return b"\x80\x6f" + noise
    return b"\x81\xc9\0\7" + noise


async def attack(target, pace, tally):
    sockets = []
    for number in range(SOURCES):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setblocking(False)
        one.bind((f"127.0.0.{90 + number}", 0))
        sockets.append(one)
    turn = 0
    while True:
        for one in sockets:
            for _ in range(5):
                turn += 1
                try:
                    one.sendto(datagram(turn % 6), target.media)
                    tally["datagrams"] += 1
                except OSError:
                    tally["not sent"] += 1
            try:
                while True:
                    tally["octets back"] += len(one.recv(2048))
            except OSError:
                pass
        await pace.rest(0.05)
