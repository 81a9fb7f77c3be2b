"""One relay, a client of each kind that publishes, and players beside them.

    clients.py --bin target/release [--minutes 10] [--gst-whip PATH] [--ffmpeg PATH] [--media-address ADDRESS]
               [--directory .cache/soak-clients]

Each client publishes a stream of its own, and each stream has a player of another kind. Every few seconds: is the
stream still live, and did the packets and the decoded pictures of its player grow? Prints a line per client, and
fails if any was cut or black. A client that is not installed is named and left out.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from relay import Failed, Processes, Relay, to_the_end, until

HERE = pathlib.Path(__file__).parent
CLIENT = HERE / "client"
# A longer time without a packet or a picture is a cut: players ride over a second or two on a busy machine.
PAUSE = 5
# Between the lightest and the darkest point of a picture, of 255.
CONTRAST = 20
# Who plays whose stream: the first of them that is there. Firefox plays no H264, webrtcbin here only VP8.
PLAYED_BY = {
    "webrtcbin": ["chromium", "firefox", "aiortc"],
    "whipclientsink": ["firefox", "aiortc", "chromium", "webrtcbin"],
    "ffmpeg": ["aiortc", "chromium"],
    "aiortc": ["webrtcbin", "chromium", "firefox"],
    "chromium": ["firefox", "aiortc", "webrtcbin"],
    "firefox": ["chromium", "webrtcbin", "aiortc"],
}


@dataclasses.dataclass
class Stream:
    """A client's stream: how long it was not listed, and what its player got of it."""

    publisher: str
    player: str
    began: float | None = None
    listed: float = 0
    away: float = 0
    faults: list = dataclasses.field(default_factory=list)
    packets: int = 0
    frames: int = 0
    pause: float = 0
    dark: float = 0
    bright: float | None = None
    grew: dict = dataclasses.field(default_factory=dict)

    def look(self, stream, now):
        """The stream as the relay lists it, or None."""
        if stream and stream.get("publisher"):
            self.listed = now
        self.away = max(self.away, now - self.listed)

    def take(self, line):
        """What the player says twice a second."""
        self.silent(line["at"])
        for what in ("packets", "frames"):
            if line[what] > getattr(self, what):
                self.grew[what] = line["at"]
                setattr(self, what, line[what])
        if line["contrast"] >= CONTRAST:
            self.bright = line["at"]
        if self.bright:
            self.dark = max(self.dark, line["at"] - self.bright)

    def silent(self, now):
        # Before the first picture nothing has been cut; a player that never has one is told apart.
        if self.frames:
            self.pause = max([self.pause, *(now - at for at in self.grew.values())])

    def judged(self):
        faults = list(self.faults)
        if self.away > PAUSE:
            faults.append(f"not live for {self.away:.0f} s")
        if self.player:
            if not self.frames:
                faults.append("black: no picture was decoded")
            elif not self.bright or self.dark > PAUSE:
                faults.append(f"black: pictures of one shade{f' for {self.dark:.0f} s' if self.bright else ''}")
            if self.pause > PAUSE:
                faults.append(f"cut: nothing came for {self.pause:.0f} s")
        return faults


class Lines:
    """The lines of a file that are new, as JSON."""

    def __init__(self, path):
        self.path, self.at = path, 0

    def new(self):
        with open(self.path) as file:
            file.seek(self.at)
            text, _, rest = file.read().rpartition("\n")
            self.at = file.tell() - len(rest.encode())
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Clients:
    """The clients that are here, and how each is started."""

    def __init__(self, arguments):
        self.arguments, self.missing = arguments, {}
        self.gst_python = next((python for python in ("/usr/bin/python3", "python3") if self.has_webrtcbin(python)), None)
        self.there("webrtcbin", self.gst_python, "no Python with GObject introspection and webrtcbin, nicesrc, vp8enc and opusenc")
        self.there("whipclientsink", arguments.gst_whip and os.access(arguments.gst_whip, os.X_OK), "tests/interop/gst-whip is not built")
        self.there("ffmpeg", arguments.ffmpeg, "no ffmpeg with WHIP")
        chromium = os.environ.get("CHROMIUM_BIN", "/usr/bin/chromium")
        firefox = [os.environ.get("FIREFOX_BIN", ""), "/usr/bin/firefox-esr", "/usr/bin/firefox"]
        modules = (HERE.parent / "browser/node_modules").exists() and shutil.which("node")
        self.there("chromium", modules and os.access(chromium, os.X_OK), "no Chromium, or tests/browser is not installed")
        pulse = shutil.which("pulseaudio")
        self.there("firefox", modules and pulse and any(os.access(one, os.X_OK) for one in firefox), "no Firefox or PulseAudio, or tests/browser is not installed")
        self.here = [name for name in PLAYED_BY if name not in self.missing]

    def there(self, name, is_there, why_not):
        if not is_there:
            self.missing[name] = why_not

    @staticmethod
    def has_webrtcbin(python):
        names = "webrtcbin nicesrc dtlsenc srtpenc opusenc vp8enc vp8dec rtpvp8pay".split()
        text = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstWebRTC', '1.0'); gi.require_version('GstSdp', '1.0')\n"
        text += f"from gi.repository import Gst; Gst.init(None); assert all(map(Gst.ElementFactory.find, {names}))"
        return shutil.which(python) and subprocess.run([python, "-c", text], capture_output=True).returncode == 0

    def publish(self, name, url):
        """The command, or None for a browser, which publishes and plays in one process."""
        address = self.arguments.media_address
        return {
            "webrtcbin": [self.gst_python, CLIENT / "gst.py", "publish", url],
            "whipclientsink": [self.arguments.gst_whip, url, "550"],
            "ffmpeg": [
                self.arguments.ffmpeg, "-hide_banner", "-loglevel", "warning", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15",
                "-re", "-f", "lavfi", "-i", "sine=frequency=660:sample_rate=48000", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-profile:v", "baseline",
                "-preset", "ultrafast", "-tune", "zerolatency", "-g", "30", "-bf", "0", "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-f", "whip", url,
            ],
            "aiortc": [sys.executable, CLIENT / "aiortc_peer.py", "publish", url, address],
        }.get(name)  # fmt: skip

    def play(self, name, url):
        address = self.arguments.media_address
        return {
            "webrtcbin": [self.gst_python, CLIENT / "gst.py", "play", url],
            "aiortc": [sys.executable, CLIENT / "aiortc_peer.py", "play", url, address],
        }.get(name)


BROWSERS = ("chromium", "firefox")


async def run(arguments, processes, clients):
    relay = Relay(processes, arguments.bin, processes.directory / "data", arguments.media_address, "--dev")
    streams = {}
    for name in clients.here:
        player = next((player for player in PLAYED_BY[name] if player in clients.here), "")
        streams[f"from-{name}"] = Stream(name, player)
    # Output of a player, and the stream it is of; that of a browser says itself.
    outputs = {}
    for name in clients.here:
        if command := clients.publish(name, f"{relay.url}/whip/from-{name}"):
            processes.start(f"publish-{name}", command)
    for name in BROWSERS:
        if name in clients.here:
            played = [stream for stream, of in streams.items() if of.player == name]
            output = processes.directory / f"{name}.json"
            command = ["node", CLIENT / "browser.mjs", name, relay.url, f"from-{name}", *played]
            processes.start(name, command, {"NODE_NO_WARNINGS": "1"}, output)
            outputs[name] = (Lines(output), None)
    for stream, of in streams.items():
        try:
            await until(f"{stream} is live", 60, lambda stream=stream: relay.stream(stream))
        except Failed as failed:
            of.faults.append(str(failed))
            continue
        of.began = of.listed = time.time()
        if command := clients.play(of.player, f"{relay.url}/whep/{stream}"):
            output = processes.directory / f"play-{stream}.json"
            processes.start(f"play-{stream}", command, output=output)
            outputs[f"play-{stream}"] = (Lines(output), stream)

    def read():
        for lines, stream in outputs.values():
            for line in lines.new():
                streams[line.get("stream") or stream].take(line)

    def whole():
        read()
        return all(of.frames for of in streams.values() if of.player and of.began)

    try:
        await until("all players have a picture", 60, whole)
    except Failed:
        print("not every player has a picture yet", flush=True)
    print(f"{len(streams)} clients publish and are played for {arguments.minutes:g} minutes; logs in {processes.directory}", flush=True)
    ended = {}
    end, said = time.time() + arguments.minutes * 60, 0
    while time.time() < end:
        await asyncio.sleep(3)
        read()
        now = time.time()
        listed = {stream["name"]: stream for stream in json.loads(relay.ask("/api/v1/streams")[1])}
        for name, of in streams.items():
            if of.began:
                of.look(listed.get(name), now)
        for name, process in processes.all.items():
            if process.poll() is not None and name not in ended:
                ended[name] = f"{name} ended with {process.returncode}"
                print(f"  {ended[name]}: {processes.log(name, 3)}", flush=True)
        if relay.process.poll() is not None:
            raise Failed(f"the relay ended: {processes.log('relay')}")
        if now > said + 30:
            said = now
            print("  " + ", ".join(f"{of.publisher} {of.frames}" for of in streams.values()) + " frames", flush=True)
    for of in streams.values():
        of.silent(time.time() - 2)
    for name, what in ended.items():
        for stream, of in streams.items():
            if name in (f"publish-{of.publisher}", f"play-{stream}", of.publisher, of.player):
                of.faults.append(what)
    panics = int(relay.metric("relay_session_panics_total"))
    return streams, panics


def show(streams, panics, clients):
    print(f"\n{'publisher':<16}{'played by':<12}{'packets':>9}{'frames':>8}{'pause':>8}{'not live':>10}")
    for of in streams.values():
        faults = of.judged()
        player = of.player or "nobody"
        print(f"{of.publisher:<16}{player:<12}{of.packets:>9}{of.frames:>8}{of.pause:>6.1f} s{of.away:>8.1f} s   {'FAILED: ' + '; '.join(faults) if faults else 'ok'}")
    for name, why in clients.missing.items():
        print(f"{name:<16}skipped: {why}")
    if panics:
        print(f"FAILED: {panics} sessions ended by a defect of the relay")


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="where relay-node and signaling-client are")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--gst-whip", help="the program of tests/interop/gst-whip")
    parser.add_argument("--ffmpeg", help="an ffmpeg with WHIP")
    parser.add_argument("--media-address", default="127.0.0.1", help="where the relay takes media: GStreamer calls no loopback address")
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path(".cache/soak-clients"))
    arguments = parser.parse_args()
    arguments.bin = arguments.bin.resolve()
    shutil.rmtree(arguments.directory, ignore_errors=True)
    clients = Clients(arguments)
    processes = Processes(arguments.directory.resolve())
    streams, panics = await to_the_end(processes, run(arguments, processes, clients))
    show(streams, panics, clients)
    return 1 if panics or not streams or any(of.judged() for of in streams.values()) else 0


sys.exit(asyncio.run(main()))
