"""All attacks at once on one relay, until they are told to stop; then what they did, as JSON.

    python -m attack --target TARGET.json --cores 0.5
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
    arguments = parser.parse_args()
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
    tallies = {module.__name__.rpartition(".")[2]: collections.Counter() for module in ATTACKS}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    cpu, began = time.process_time(), time.monotonic()
    tasks = [asyncio.create_task(forever(module, target, pace, tally)) for module, tally in zip(ATTACKS, tallies.values())]
    tasks.append(asyncio.create_task(pace.watch()))
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5)
    cores = (time.process_time() - cpu) / (time.monotonic() - began)
    print(json.dumps({"cores": round(cores, 3), "slower": round(pace.slower, 1), "attacks": tallies}), flush=True)


asyncio.run(main())
