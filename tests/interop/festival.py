"""Two relays, bridged, and what is measured in the far one. Peers publish and play; this watches."""

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request


class Festival:
    """Zone `stage` and zone `camping`, one hop apart, open to all."""

    def __init__(self, bin_directory, media_address="127.0.0.1"):
        self.bin, self.media_address = bin_directory, media_address
        self.directory = tempfile.TemporaryDirectory(prefix="relay-interop-")
        self.processes = []
        self.logs = {}
        stage = self._relay("stage")
        camping = self._relay("camping", "--peer", stage["bridge"])
        self.stage, self.camping = f"http://{stage['http']}", f"http://{camping['http']}"
        until("the relays are bridged", 15, lambda: any(link["up"] for link in self.get(self.camping, "/api/v1/mesh")["links"]))

    def _relay(self, zone, *arguments):
        data = os.path.join(self.directory.name, zone)
        os.mkdir(data)
        address = "127.0.0.1:0"
        command = [
            os.path.join(self.bin, "relay-node"), "--zone", zone, "--dev", "--data", data,
            "--http", address, "--media", f"{self.media_address}:0", "--bridge", address, *arguments,
        ]  # fmt: skip
        process = self.start(f"relay {zone}", command)
        path = os.path.join(data, "addresses.json")

        def addresses():
            if process.poll() is not None:
                raise Failed(f"relay {zone} ended: {self.log(f'relay {zone}')}")
            return os.path.exists(path) and json.load(open(path))

        return until(f"relay {zone} is up", 20, addresses)

    def start(self, name, command, **options):
        """A process that ends with the festival; its output goes to a log of that name."""
        path = os.path.join(self.directory.name, name.replace(" ", "-").replace("/", "-") + ".log")
        self.logs[name] = path
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=open(path, "wb"), stderr=subprocess.STDOUT, **options
        )
        self.processes.append(process)
        return process

    def log(self, name, lines=25):
        return "\n".join(open(self.logs[name], errors="replace").read().splitlines()[-lines:])

    def get(self, base, path):
        with urllib.request.urlopen(base + path, timeout=5) as answer:
            return json.load(answer)

    def live(self, stream, base=None):
        """The stream as `base` (camping) lists it, once it does."""
        base = base or self.camping
        find = lambda: next((s for s in self.get(base, "/api/v1/streams") if s["name"] == stream), None)  # noqa: E731
        return until(f"{stream} is listed", 15, find)

    def listen(self, stream, seconds=4):
        """What signaling-client measures of the stream in camping."""
        command = [os.path.join(self.bin, "signaling-client"), "listen", f"{self.camping}/whep/{stream}", "--seconds", str(seconds), "--wait"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 40)
        if done.returncode != 0:
            raise Failed(f"the listener ended with {done.returncode}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout[done.stdout.index("{") :])

    def close(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.directory.cleanup()


class Failed(Exception):
    """A test failed, and this is why."""


def until(what, seconds, ready):
    """Asks again and again until there is an answer."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            answer = ready()
            if answer:
                return answer
        except (OSError, urllib.error.URLError, ValueError) as error:
            last = error
        time.sleep(0.05)
    raise Failed(f"{what}: not within {seconds} s ({last})")


def post_offer(url, sdp):
    """POST of an offer: status, Location and the answer."""
    request = urllib.request.Request(url, sdp.encode(), {"content-type": "application/sdp"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Location"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, None, error.read().decode()


def delete(url):
    """DELETE of a session: the status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def heard(report, hertz, video=False):
    """Fails unless the report tells of that tone, whole, and of a picture if there has to be one."""
    if report.get("peak_hz") is None or abs(report["peak_hz"] - hertz) > 3:
        raise Failed(f"not {hertz} Hz: {report}")
    if report["level_dbfs"] < -45 or report["lost"] or report["duplicates"]:
        raise Failed(f"too quiet, or not whole: {report}")
    if video:
        picture = report.get("video") or {}
        if picture.get("packets", 0) < 30 or picture.get("keyframes", 0) < 1:
            raise Failed(f"no picture: {report}")
