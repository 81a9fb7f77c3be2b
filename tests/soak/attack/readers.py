"""Downloads and long answers that are read a few octets at a time."""

import asyncio

from .ground import Crowd


async def attack(target, pace, tally):
    def download(number):
        path = f"/api/v1/files/{target.file}" if number % 2 else "/api/v1/rooms/lobby/messages"
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    crowds = [Crowd(target, f"127.0.0.{44 + number}", target.sockets // 20, download, receive=4096, life=40) for number in range(2)]
    for crowd in crowds:
        crowd.tally = tally
    await asyncio.gather(*(crowd.hold(pace, lambda one: one.recv(64)) for crowd in crowds))
