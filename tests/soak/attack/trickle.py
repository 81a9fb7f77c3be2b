"""Bodies of which an octet comes every two seconds: offers, messages, uploads; and heads that never end."""

import asyncio

from .ground import Crowd


def first(number):
    head = f"Host: 127.0.0.1\r\nContent-Length: 60000\r\nContent-Type: {'application/sdp' if number % 2 else 'application/json'}\r\n"
    path = ("/api/v1/rooms/lobby/messages", "/whep/main-stage", "/api/v1/rooms/trickle/messages")[number % 3]
    # Every fifth one does not get to the end of its head.
    return f"POST {path} HTTP/1.1\r\n{head}{'X-Slow: ' if number % 5 == 0 else f'{chr(13)}{chr(10)}'}".encode()


async def attack(target, pace, tally):
    crowds = [Crowd(target, f"127.0.0.{40 + number}", target.sockets // 6, first) for number in range(2)]
    for crowd in crowds:
        crowd.tally = tally
    await asyncio.gather(*(crowd.hold(pace, lambda one: one.send(b" ")) for crowd in crowds))
