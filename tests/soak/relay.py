"""A relay of its own for a long run, the processes beside it, and what is read of them in /proc."""

import asyncio
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

TOKEN = "soak-publish-token"
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """The run cannot go on, and this is why."""


class Processes:
    """What a run started, each with a log of its own; all of it ends with the run."""

    def __init__(self, directory):
        self.directory, self.all = pathlib.Path(directory), {}
        self.directory.mkdir(parents=True, exist_ok=True)

    def start(self, name, command, environment=None, output=None, **options):
        """`output` is a file for what comes on standard output, if it is not for the log."""
        # RELAY_… in the environment would configure the relay.
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RELAY_")} | (environment or {})
        with open(self.path(name), "wb") as log, open(output or os.devnull, "wb") as result:
            process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=result if output else log, stderr=log, env=clean, **options
            )
        self.all[name] = process
        return process

    def path(self, name):
        return self.directory / f"{name}.log"

    def log(self, name, lines=15):
        return "\n".join(self.path(name).read_text(errors="replace").splitlines()[-lines:])

    def end(self, name, seconds=15):
        process = self.all[name]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return process.returncode

    def end_all(self):
        for name in reversed(self.all):
            self.end(name)


class Relay:
    """A relay with the defaults and the publish token, on free ports."""

    def __init__(self, processes, binaries, data, media="127.0.0.1", *more):
        doors = ["--http", "127.0.0.1:0", "--media", f"{media}:0", "--bridge", "127.0.0.1:0"]
        command = [binaries / "relay-node", "--zone", "soak", "--data", data, *doors, *more]
        self.process = processes.start("relay", command, {"RELAY_PUBLISH_TOKEN": TOKEN})
        path = pathlib.Path(data) / "addresses.json"
        end = time.monotonic() + 30
        while not path.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed(f"the relay did not start: {processes.log('relay')}")
            time.sleep(0.05)
        addresses = json.loads(path.read_text())
        self.pid = self.process.pid
        self.http, self.media, self.bridge = (address(addresses[door]) for door in ("http", "media", "bridge"))
        self.url = f"http://{addresses['http']}"

    def ask(self, path, method="GET", body=None, headers=(), seconds=10):
        """Status and body."""
        request = urllib.request.Request(self.url + path, body, dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def stream(self, name):
        """The stream as it is listed, or None."""
        return next((stream for stream in json.loads(self.ask("/api/v1/streams")[1]) if stream["name"] == name), None)

    def metric(self, name, label=""):
        """The sum of the series of that name, and of those with that label if one is given."""
        lines = self.ask("/metrics")[1].decode().splitlines()
        series = (line.rpartition(" ") for line in lines if re.match(rf"{name}[ {{]", line))
        return sum(float(value) for head, _, value in series if label in head)

    def drops(self):
        lines = self.ask("/metrics")[1].decode().splitlines()
        found = (re.match(r'relay_drop_total\{reason="([^"]*)"\} (\S+)', line) for line in lines)
        return {one[1]: int(float(one[2])) for one in found if one and float(one[2])}


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def resident(pid):
    """VmRSS in MB."""
    return int(re.search(r"VmRSS:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024 / 1e6


def threads(pid):
    """The name of each thread, by its id."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            found[int(task.name)] = (task / "comm").read_text().strip()
        except FileNotFoundError:
            continue
    return found


def cpu(pid):
    """Seconds of CPU a process has used."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def turns(pid):
    """Of each thread: seconds it ran, and seconds it could have run and had no core."""
    found = {}
    for task, name in threads(pid).items():
        try:
            ran, waited, _ = pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()
        except (OSError, ValueError):
            continue
        found[task] = name, int(ran) / 1e9, int(waited) / 1e9
    return found


def machine():
    """Seconds of CPU that the whole machine has used."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields) - idle - waiting) / TICKS


def overflows():
    """Connections that the kernel turned away because nobody accepted those before them. Such a client tries again
    after a second."""
    lines = [line.split() for line in pathlib.Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")]
    return int(dict(zip(*lines))["ListenOverflows"])


def share(values, part):
    """The value below which that part of them is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def first_packet(processes, binaries, directory):
    """The first packet that a relay sends to another one it dials."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", 0))
        here.settimeout(20)
        # It dials a relay of which only the address is known.
        doors = ("--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--bridge", "127.0.0.1:0")
        command = [binaries / "relay-node", "--zone", "stranger", "--dev", "--data", directory, *doors, "--peer", f"127.0.0.1:{here.getsockname()[1]}"]
        processes.start("stranger", command)
        try:
            return here.recv(2048)
        except TimeoutError:
            raise Failed(f"no relay dialed: {processes.log('stranger')}") from None
        finally:
            processes.end("stranger")


async def to_the_end(processes, running):
    """What a run gives. One that cannot go on, or is stopped, ends this process; its others end in any case."""
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, asyncio.current_task().cancel)
    try:
        return await running
    except Failed as failed:
        print(f"FAILED  {failed}")
        sys.exit(1)
    except asyncio.CancelledError:
        print("stopped; nothing was judged")
        sys.exit(130)
    finally:
        processes.end_all()


async def until(what, seconds, ready):
    """Asks again and again until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if answer := ready():
                return answer
        except (OSError, ValueError):
            pass
        await asyncio.sleep(0.1)
    raise Failed(f"{what}: not within {seconds} s")
