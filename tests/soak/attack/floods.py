"""Chat as fast as it goes, in the room where honest people talk: by POST and on a WebSocket."""

import asyncio
import json
import os
import struct

from .ground import JSON, NO_ANSWER, Http, failure, upgrade


async def attack(target, pace, tally):
    await asyncio.gather(*(posts(target, pace, tally, number) for number in range(3)), says(target, pace, tally))


async def posts(target, pace, tally, number):
    http, count = Http(target.http, f"127.0.0.{60 + number}"), 0
    while True:
        count += 1
        # Names that look honest, and ever new ones: shares must not go by what people call themselves.
        author = "Ada" if count % 2 else f"Ada {count}"
        body = json.dumps({"author": author, "text": f"{number} {count} " + "flood " * (count % 80)}).encode()
        try:
            status, _, _ = await http.ask("POST", "/api/v1/rooms/lobby/messages", JSON, body)
            tally[f"posts {status}"] += 1
        except NO_ANSWER as error:
            http.close()
            tally[failure(error)] += 1
        await pace.rest(0.03)


def text(message):
    """A text message as a client sends it, masked (RFC 6455 section 5.2)."""
    body, mask = json.dumps(message).encode(), os.urandom(4)
    length = bytes([0x80 | len(body)]) if len(body) < 126 else struct.pack(">BH", 0xFE, len(body))
    return b"\x81" + length + mask + bytes(octet ^ mask[at % 4] for at, octet in enumerate(body))


async def says(target, pace, tally):
    count = 0
    while True:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(*target.http, local_addr=("127.0.0.64", 0))
            writer.write(upgrade("lobby"))
            # Until the relay hangs up; what it says is read, as it is cut off for that elsewhere.
            reading = asyncio.create_task(swallow(reader))
            while not reading.done():
                count += 1
                writer.write(text({"type": "say", "author": "Ada", "text": f"flood {count}", "nonce": str(count)}))
                await writer.drain()
                tally["says"] += 1
                await pace.rest(0.05)
        except NO_ANSWER as error:
            tally[failure(error)] += 1
        tally["hung up on"] += 1
        if writer:
            writer.close()
        await pace.rest(1)


async def swallow(reader):
    while await reader.read(65536):
        pass
