"""All attacks at once on one relay, until they are told to stop; then what they did, as JSON.

    python -m attack --target TARGET.json [--cores 0.5] [NAME …]

NAME selects attacks: with one alone it shows what a figure comes from.
"""

import argparse
import asyncio
import collections
import json
import logging
import resource
import signal
import time
import traceback

from . import bridge, floods, guesses, hammer, junk, places, readers, rooms, sctp, trickle, uploads, websockets
from .ground import Pace, Target

ATTACKS = [sctp, hammer, places, trickle, readers, websockets, rooms, floods, guesses, bridge, uploads, junk]


def name_of(module):
    return module.__name__.rpartition(".")[2]


async def forever(module, target, pace, tally):
    """An attack goes on whatever the relay answers; what surprises it is counted and shown."""
    while True:
        try:
            await module.attack(target, pace, tally)
        except Exception as error:
            tally[f"broke off: {type(error).__name__}"] += 1
            if sum(tally.values()) < 1000:
                traceback.print_exc()
            await asyncio.sleep(1)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--cores", type=float, default=0.5)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {name_of(module) for module in ATTACKS}:
        parser.error(f"no such attack: {', '.join(unknown)}")
    attacks = [module for module in ATTACKS if not arguments.names or name_of(module) in arguments.names]
    with open(arguments.target) as file:
        wanted = json.load(file)
    wanted["initial"] = bytes.fromhex(wanted["initial"])
    for door in ("http", "media", "bridge"):
        wanted[door] = tuple(wanted[door])
    # aiortc and asyncio complain of what a relay under attack does with those who attack it.
    logging.disable(logging.CRITICAL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target, pace = Target(**wanted), Pace(arguments.cores)
    tallies = {name_of(module): collections.Counter() for module in attacks}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    cpu, began = time.process_time(), time.monotonic()
    tasks = [asyncio.create_task(forever(module, target, pace, tally)) for module, tally in zip(attacks, tallies.values())]
    tasks.append(asyncio.create_task(pace.watch()))
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5)
    cores = (time.process_time() - cpu) / (time.monotonic() - began)
    print(json.dumps({"cores": round(cores, 3), "slower": round(pace.slower, 1), "attacks": tallies}), flush=True)


asyncio.run(main())
