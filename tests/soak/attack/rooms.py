"""A message in each of 1024 rooms, over and over, and WebSockets that come to a new room and go."""

import asyncio
import json
import socket

from .ground import JSON, NO_ANSWER, Http, failure, upgrade

ROOMS = 1024


async def attack(target, pace, tally):
    await asyncio.gather(messages(target, pace, tally), visits(target, pace, tally))


async def messages(target, pace, tally):
    # An address begins a hundred rooms and then a few a minute: it takes some of them to fill all.
    https, number = [Http(target.http, f"127.0.4.{place}") for place in range(1, 21)], 0
    while True:
        number += 1
        http = https[number % ROOMS * len(https) // ROOMS]
        body = json.dumps({"author": "Nobody", "text": f"{number} " + "room " * 20}).encode()
        try:
            status, _, _ = await http.ask("POST", f"/api/v1/rooms/filled-{number % ROOMS}/messages", JSON, body)
            tally[f"messages {status}"] += 1
        except NO_ANSWER as error:
            http.close()
            tally[failure(error)] += 1
        await pace.rest(0.025)


async def visits(target, pace, tally):
    number = 0
    while True:
        number += 1
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(*target.http, local_addr=(f"127.0.0.{56 + number % 3}", 0))
                # Gone without a word: the relay has to find out.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                writer.write(upgrade(f"visited-{number}"))
                tally[f"visits {(await reader.readline()).split()[1].decode()}"] += 1
                writer.close()
        except NO_ANSWER as error:
            tally[failure(error)] += 1
        await pace.rest(0.05)
