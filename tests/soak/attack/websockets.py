"""WebSockets in a lively room that read nothing."""

import asyncio

from .ground import Crowd, upgrade


async def attack(target, pace, tally):
    crowds = [Crowd(target, f"127.0.0.{48 + number}", target.sockets // 8, lambda _: upgrade("lobby"), receive=4096, life=30) for number in range(3)]
    for crowd in crowds:
        crowd.tally = tally
    await asyncio.gather(*(crowd.hold(pace, lambda one: None) for crowd in crowds))
