"""A relay as in production, with listeners, while all attacks of tests/soak/attack run at once.

    attacks.py --bin target/release [--minutes 10] [--listeners 200] [--only NAME,NAME] [--directory .cache/soak-attacks]

Fails unless the listeners, those who join, and the relay's process take no harm. Prints a table at the end.
"""

import argparse
import asyncio
import json
import os
import pathlib
import resource
import shutil
import sys
import time

from relay import TOKEN, Failed, Processes, Relay, cpu, first_packet, machine, overflows, resident, share, threads, to_the_end, turns, until

HERE = pathlib.Path(__file__).parent
STREAM = "main-stage"
# What the attackers together may take of a core: relay and listeners need the rest of a small machine.
CORES = 0.5
SETTLE, AFTER = 10, 60
LOST, JOINED, LIVE_MS, GROWN_MB = 0.001, 0.99, 200, 64


class Health:
    """`/livez` twice a second, on a new connection from an address of its own, as a supervisor asks."""

    def __init__(self, relay):
        self.relay, self.milliseconds, self.wrong, self.late = relay, [], 0, 0.0

    async def watch(self):
        while True:
            due = time.monotonic() + 0.5
            began = time.monotonic()
            try:
                async with asyncio.timeout(5):
                    reader, writer = await asyncio.open_connection(*self.relay.http, local_addr=("127.0.1.1", 0))
                    writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                    good = b" 200 " in await reader.readline()
                    writer.close()
            except (OSError, TimeoutError):
                good = False
            self.wrong += not good
            self.milliseconds.append((time.monotonic() - began) * 1000)
            if self.milliseconds[-1] > LIVE_MS:
                print(f"    /livez took {self.milliseconds[-1]:.0f} ms", flush=True)
            await asyncio.sleep(max(0, due - time.monotonic()))
            # How late this process itself is called: then the machine is at its end, and not the relay alone.
            self.late = max(self.late, (time.monotonic() - max(due, began)) * 1000 - max(0, (began - due) * 1000))


async def run(arguments, processes):
    directory, binaries = processes.directory, arguments.bin
    relay = Relay(processes, binaries, directory / "data")
    publisher = [binaries / "signaling-client", "publish", f"{relay.url}/whip/{STREAM}", "--demo", "--reconnect"]
    processes.start("publisher", publisher, {"RELAY_TOKEN": TOKEN})
    await until("the stage is live", 20, lambda: relay.stream(STREAM))
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/octet-stream"}
    status, body = relay.ask("/api/v1/rooms/lobby/files?name=lineup.bin&from=Ada", "POST", os.urandom(16 << 20), headers)
    if status != 201:
        raise Failed(f"the file was answered with {status}: {body}")
    target = directory / "target.json"
    initial = first_packet(processes, binaries, directory / "stranger")
    # Each socket is a descriptor of the relay's too, which has others to open.
    limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 8000)
    wanted = {"http": relay.http, "media": relay.media, "bridge": relay.bridge, "stream": STREAM}
    wanted |= {"file": json.loads(body)["id"], "initial": initial.hex(), "sockets": limit // 2}
    target.write_text(json.dumps(wanted))

    attacked = arguments.minutes * 60
    # They stay from before the attacks until after them, so that memory is compared like with like.
    heard = directory / "listeners.json"
    load = [binaries / "signaling-client", "load", "listen", f"{relay.url}/whep/{STREAM}", "--count", arguments.listeners]
    load += ["--seconds", int(SETTLE + attacked + AFTER + 10), "--json"]
    listeners = processes.start("listeners", load, output=heard)
    await until("all listeners are there", 60 + arguments.listeners / 5, lambda: relay.metric("relay_sessions", "egress") >= arguments.listeners)
    await asyncio.sleep(SETTLE)

    before = {"memory": resident(relay.pid), "threads": threads(relay.pid)}
    print(f"{arguments.listeners} listeners; attacks for {arguments.minutes:g} minutes; logs in {directory}", flush=True)
    attackers = processes.start("attackers", [sys.executable, "-m", "attack", "--target", target, "--cores", CORES, *arguments.only], output=directory / "attackers.json", cwd=HERE)
    people = processes.start("people", [sys.executable, HERE / "people.py", "--target", target], output=directory / "people.json")
    parts = {"relay": relay.pid, "listeners": listeners.pid, "attackers": attackers.pid, "people": people.pid, "this": os.getpid()}
    used, whole, refused, began = {name: cpu(pid) for name, pid in parts.items()}, machine(), overflows(), time.monotonic()
    at_first = turns(relay.pid)
    health = Health(relay)
    watch = asyncio.create_task(health.watch())
    peak = 0.0
    while time.monotonic() < began + attacked:
        await asyncio.sleep(min(10, max(0.1, began + attacked - time.monotonic())))
        for name in ("relay", "attackers", "people"):
            if processes.all[name].poll() is not None:
                raise Failed(f"{name} ended: {processes.log(name)}")
        peak = max(peak, resident(relay.pid))
        print(
            f"  {time.monotonic() - began:5.0f} s  {resident(relay.pid):5.0f} MB  {len(os.listdir(f'/proc/{relay.pid}/fd')):5} descriptors  "
            f"/livez p99 {share(health.milliseconds, 0.99):4.0f} ms  "
            f"turned away {overflows() - refused}  load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    seconds = time.monotonic() - began
    used = {name: (cpu(pid) - used[name]) / seconds for name, pid in parts.items()}
    used["everything else on this machine"] = (machine() - whole) / seconds - sum(used.values())
    # Who waits for a core is late by no fault of its own: look here first when a bound does not hold.
    waits = {
        task: (name, (ran - at_first[task][1]) / seconds, (waited - at_first[task][2]) / seconds)
        for task, (name, ran, waited) in turns(relay.pid).items() if task in at_first
    }  # fmt: skip
    watch.cancel()
    processes.end("attackers")
    processes.end("people", seconds=30)
    print(f"the attacks are over; memory once more in {AFTER} s", flush=True)
    await asyncio.sleep(AFTER)

    after = {"memory": resident(relay.pid), "threads": threads(relay.pid)}
    answers = {path: relay.ask(path)[0] for path in ("/readyz", "/livez")}
    panics, drops = relay.metric("relay_session_panics_total"), relay.drops()
    history = {message["id"] for message in json.loads(relay.ask("/api/v1/rooms/lobby/messages")[1])}
    await until("the listeners are done", 60, lambda: listeners.poll() is not None)
    said = processes.path("relay").read_text(errors="replace")
    return {
        "before": before, "after": after, "peak": peak, "answers": answers, "panics": int(panics), "drops": drops, "health": health, "used": used, "waits": waits,
        "alive": relay.process.poll() is None and json.loads((directory / "data/addresses.json").read_text())["pid"] == relay.pid,
        "panicked": [line for line in said.splitlines() if "panicked" in line],
        "listeners": json.loads(heard.read_text().splitlines()[-1]), "count": arguments.listeners, "history": history,
        "attackers": json.loads((directory / "attackers.json").read_text()), "people": json.loads((directory / "people.json").read_text()),
    }  # fmt: skip


def judged(seen):
    """What was measured, what has to be, and whether it is: a row each. A row without a bound is for information."""
    heard, people, health, after, before = (seen[name] for name in ("listeners", "people", "health", "after", "before"))
    whole = heard["packets"] + heard["lost"]
    lost = heard["lost"] / whole if whole else 1
    joined, not_joined = len(people["joins"]), sum(people["not_joined"].values())
    joined_part = joined / (joined + not_joined) if joined else 0
    said, not_said = len(people["said"]), sum(people["not_said"].values())
    hammer = seen["attackers"]["attacks"].get("hammer", {})
    live = share(health.milliseconds, 0.99)
    grown = after["memory"] - before["memory"]
    gone = {number: name for number, name in before["threads"].items() if after["threads"].get(number) != name}
    of_late = [name for number, name in after["threads"].items() if number not in before["threads"]]
    joins_ms = [1000 * seconds for seconds in people["joins"]]
    return [
        ("packets that listeners lost", f"{lost:.4%} of {whole}, {heard['gaps']} gaps", f"below {LOST:.1%}", lost < LOST),
        ("listeners that were cut", f"{heard['broken'] + seen['count'] - heard['joined']} of {seen['count']}", "0", heard["broken"] == 0 and heard["joined"] == seen["count"]),
        ("honest joins", f"{joined} of {joined + not_joined}, p50 {share(joins_ms, 0.5):.0f} ms, p99 {share(joins_ms, 0.99):.0f} ms", f"{JOINED:.0%}", joined_part >= JOINED),
        ("honest messages", f"{said} of {said + not_said}, {len(seen['history'] & set(people['said']))} still there", "", True),
        ("/livez", f"p50 {share(health.milliseconds, 0.5):.0f} ms, p99 {live:.0f} ms, worst {max(health.milliseconds):.0f} ms", f"p99 below {LIVE_MS} ms", live < LIVE_MS),
        ("/livez that was not 200", f"{health.wrong} of {len(health.milliseconds)}", "below 1 %", health.wrong < 0.01 * len(health.milliseconds)),
        (f"memory, {AFTER} s after", f"{after['memory']:.0f} MB, {grown:+.0f}; {seen['peak']:.0f} at most", f"+{GROWN_MB} MB", grown <= GROWN_MB),
        ("threads", f"{len(after['threads'])}, gone: {', '.join(gone.values()) or 'none'}" + (f", new: {', '.join(of_late)}" if of_late else ""), "none gone", not gone),
        ("the relay's process", "the same" if seen["alive"] else "ended", "the same", seen["alive"]),
        ("/readyz", str(seen["answers"]["/readyz"]), "200", seen["answers"]["/readyz"] == 200),
        ("panics", f"{seen['panics']} counted, {len(seen['panicked'])} in the log", "0", seen["panics"] == 0 and not seen["panicked"]),
        ("sent to who answers nothing", f"{hammer.get('octets back', 0) / max(1, hammer.get('octets sent', 0)):.1f} octets for each that came", "3",
         hammer.get("octets back", 0) <= 3 * hammer.get("octets sent", 0)),
        ("sessions guessed, files taken", str(sum(tally.get("SUCCEEDED", 0) for tally in seen["attackers"]["attacks"].values())), "0",
         not any("SUCCEEDED" in tally for tally in seen["attackers"]["attacks"].values())),
    ]  # fmt: skip


def show(seen, rows):
    print("\nwhat the attackers did")
    for name, tally in seen["attackers"]["attacks"].items():
        print(f"  {name:<12} {', '.join(f'{what}: {count}' for what, count in sorted(tally.items()))}")
    print("\nCPU, in cores")
    for name, cores in seen["used"].items():
        print(f"  {name:<34} {cores:5.2f}")
    print(f"  the attackers slowed down by {seen['attackers']['slower']:g} at the end; this process was called up to {seen['health'].late:.0f} ms late")
    print("\nthreads of the relay: ran, and waited for a core, of the time")
    for name, ran, waited in sorted(seen["waits"].values(), key=lambda one: -one[1]):
        print(f"  {name:<34} {ran:6.1%} {waited:6.1%}")
    print(f"\nwhat the relay dropped\n  {', '.join(f'{reason}: {count}' for reason, count in sorted(seen['drops'].items()))}")
    for title, failures in (("joins", seen["people"]["not_joined"]), ("messages", seen["people"]["not_said"])):
        if failures:
            print(f"\nhonest {title} that failed\n  {failures}")
    for line in seen["panicked"][:5]:
        print(f"  {line[:300]}")
    print()
    for name, measured, bound, good in rows:
        print(f"{'ok    ' if good else 'FAILED'}  {name:<32} {measured:<58} {bound}")
    ran, waited = (sum(one[at] for one in seen["waits"].values()) for at in (1, 2))
    if waited > ran and not all(good for *_, good in rows):
        print(f"\nThe relay waited for a core {waited / ran:.1f} times as long as it ran: this machine is too busy to tell whose fault it is.")


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="where relay-node and signaling-client are")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--only", type=lambda names: names.split(","), default=[], help="attacks by the names of their modules, joined by commas")
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path(".cache/soak-attacks"))
    arguments = parser.parse_args()
    arguments.bin = arguments.bin.resolve()
    shutil.rmtree(arguments.directory, ignore_errors=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    processes = Processes(arguments.directory.resolve())
    seen = await to_the_end(processes, run(arguments, processes))
    rows = judged(seen)
    show(seen, rows)
    return 0 if all(good for *_, good in rows) else 1


sys.exit(asyncio.run(main()))
