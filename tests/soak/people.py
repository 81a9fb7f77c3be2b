"""Honest people while a relay is attacked, each with an address of their own: until they are told to stop, then
how it went for them, as JSON.

    people.py --target TARGET.json

Every two seconds somebody joins the stream, which has gone well once sound arrives; every five seconds somebody says
something in the lobby.
"""

import argparse
import asyncio
import collections
import json
import logging
import signal
import time

from attack.ground import JSON, NO_ANSWER, Http, Target, failure, listener

JOIN, SAY, PATIENCE = 2, 5, 10


async def join(target, number, joins, failures):
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE), listener(target, f"127.0.2.{number % 250 + 1}") as (connection, _):
            await connection.getReceivers()[0].track.recv()
            joins.append(time.monotonic() - began)
    except NO_ANSWER as error:
        failures[str(error) or failure(error)] += 1
    except Exception as error:
        failures[f"{type(error).__name__}: {error}"] += 1


async def joining(target, joins, failures, running):
    for number in range(1 << 30):
        task = asyncio.create_task(join(target, number, joins, failures))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(JOIN)


async def talking(target, said, failures):
    http = Http(target.http, "127.0.3.1")
    for number in range(1 << 30):
        began, text = time.monotonic(), f"honest {number}"
        body = json.dumps({"author": "Grace", "text": text}).encode()
        try:
            status, _, answer = await http.ask("POST", "/api/v1/rooms/lobby/messages", JSON, body)
            if status != 201:
                raise ValueError(f"chat answered {status}")
            said[json.loads(answer)["id"]] = time.monotonic() - began
        except NO_ANSWER as error:
            http.close()
            failures[str(error) or failure(error)] += 1
        await asyncio.sleep(max(0, began + SAY - time.monotonic()))


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    with open(parser.parse_args().target) as file:
        wanted = json.load(file)
    for door in ("http", "media", "bridge"):
        wanted[door] = tuple(wanted[door])
    target = Target(**wanted)
    logging.disable(logging.CRITICAL)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    joins, said, running = [], {}, set()
    not_joined, not_said = collections.Counter(), collections.Counter()
    tasks = [asyncio.create_task(joining(target, joins, not_joined, running)), asyncio.create_task(talking(target, said, not_said))]
    await stop.wait()
    for task in tasks:
        task.cancel()
    # Who is on the way gets there or not.
    if running:
        await asyncio.wait(running)
    print(json.dumps({"joins": joins, "not_joined": not_joined, "said": said, "not_said": not_said}), flush=True)


asyncio.run(main())
