"""What the attacks share: whom they mean, where they come from, how fast they go, HTTP and WebRTC by hand."""

import asyncio
import collections
import contextlib
import contextvars
import dataclasses
import select
import socket
import time

import aioice.ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

# The address that aiortc sends from; by itself it leaves out the loopback interface.
SOURCE = contextvars.ContextVar("source", default="127.0.0.1")
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [SOURCE.get()]


@dataclasses.dataclass
class Target:
    """The relay under attack, and what in it there is to ask for."""

    http: tuple
    media: tuple
    bridge: tuple
    stream: str
    file: str
    # The first packet of a relay that dials, for the attack on the bridge port.
    initial: bytes
    # How many sockets all attacks may hold together.
    sockets: int


class Pace:
    """Keeps all attacks together below a share of a core: above it, every rest gets longer."""

    def __init__(self, cores):
        self.cores, self.slower = cores, 1.0

    async def rest(self, seconds):
        await asyncio.sleep(seconds * self.slower)

    async def watch(self):
        while True:
            cpu, began = time.process_time(), time.monotonic()
            await asyncio.sleep(1)
            used = (time.process_time() - cpu) / (time.monotonic() - began)
            if used > self.cores:
                self.slower = min(self.slower * 1.5, 50)
            elif used < 0.8 * self.cores:
                self.slower = max(self.slower / 1.1, 1)


class Http:
    """HTTP/1.1 on one connection that is kept, from an address of choice."""

    def __init__(self, address, source):
        self.address, self.source, self.reader, self.writer = address, source, None, None

    async def ask(self, method, path, headers=(), body=b"", seconds=10, claimed=None):
        """Status, headers and body; the connection is made anew once if the relay has closed it. `claimed` is a
        length of the body that is not true."""
        head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body) if claimed is None else claimed}", *headers]
        request = "\r\n".join(head).encode() + b"\r\n\r\n" + body
        async with asyncio.timeout(seconds):
            for fresh in (self.writer is None, True):
                try:
                    if self.writer is None:
                        self.reader, self.writer = await asyncio.open_connection(*self.address, local_addr=(self.source, 0))
                    self.writer.write(request)
                    return await self.answer()
                except (ConnectionError, asyncio.IncompleteReadError):
                    self.close()
                    if fresh:
                        raise

    async def answer(self):
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = b""
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        if headers.get("connection") == "close":
            self.close()
        return int(status.split()[1]), headers, body

    def close(self):
        if self.writer:
            self.writer.close()
        self.reader = self.writer = None


def failure(error):
    """How a request that got no answer is counted."""
    return f"no answer ({type(error).__name__})"


NO_ANSWER = (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError)


def upgrade(room):
    """The request that opens a WebSocket in a room."""
    lines = [f"GET /api/v1/rooms/{room}/ws HTTP/1.1", "Host: 127.0.0.1", "Connection: Upgrade", "Upgrade: websocket"]
    return "\r\n".join([*lines, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: c29hay1zb2FrLXNvYWstMQ==", "", ""]).encode()


class Crowd:
    """Sockets that are held open from one address. Whatever the relay cuts is opened again.

    Who does not read does not learn that it was cut: such sockets are given up after their `life` in seconds.
    """

    def __init__(self, target, source, count, first, receive=None, life=3600):
        self.target, self.source, self.count, self.first, self.receive, self.life = target, source, count, first, receive, life
        # By descriptor: the socket, and when it was opened.
        self.held, self.fresh = {}, []
        self.poll = select.poll()
        self.tally = collections.Counter()

    def open(self):
        one = socket.socket()
        one.setblocking(False)
        if self.receive:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive)
        one.bind((self.source, 0))
        one.connect_ex(self.target.http)
        self.held[one.fileno()] = one, time.monotonic()
        self.fresh.append(one)
        self.poll.register(one, select.POLLRDHUP)
        self.tally["opened"] += 1

    def drop(self, descriptor):
        self.poll.unregister(descriptor)
        self.held.pop(descriptor)[0].close()

    async def hold(self, pace, step):
        """Keeps the crowd whole, and lets each socket take its `step` every two seconds."""
        while True:
            for one in self.fresh:
                with contextlib.suppress(OSError):
                    one.send(self.first(self.tally["opened"]))
            self.fresh.clear()
            for descriptor, _ in self.poll.poll(0):
                self.drop(descriptor)
                self.tally["cut by the relay"] += 1
            # Not all at once: a step that takes long would keep the other attacks waiting.
            for number, (descriptor, (one, opened)) in enumerate(list(self.held.items())):
                if time.monotonic() > opened + self.life:
                    self.drop(descriptor)
                    self.tally["given up"] += 1
                    continue
                with contextlib.suppress(OSError):
                    step(one)
                if number % 100 == 99:
                    await pace.rest(0.02)
            for number in range(self.count - len(self.held)):
                self.open()
                if number % 50 == 49:
                    await pace.rest(0.05)
            self.tally["held at most"] = max(self.tally["held at most"], len(self.held))
            await pace.rest(2)


# An offer of a browser that never connects.
OFFER = "\r\n".join([
    "v=0", "o=- 7 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
    "m=audio 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", "a=mid:0", "a=recvonly", "a=rtcp-mux", "a=rtpmap:96 opus/48000/2",
    "a=ice-ufrag:soak", "a=ice-pwd:a-password-of-the-soak-run", "a=setup:actpass",
    "a=fingerprint:sha-256 " + ":".join(["5A"] * 32), "",
]).encode()  # fmt: skip
SDP = ("Content-Type: application/sdp",)
JSON = ("Content-Type: application/json",)


@contextlib.asynccontextmanager
async def listener(target, source, channel=False):
    """A listener that is connected, and the relay's answer."""
    SOURCE.set(source)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    http = Http(target.http, source)
    try:
        connection.addTransceiver("audio", direction="recvonly")
        if channel:
            connection.createDataChannel("soak")
        await connection.setLocalDescription(await connection.createOffer())
        offer = connection.localDescription.sdp.encode()
        status, _, answer = await http.ask("POST", f"/whep/{target.stream}", SDP, offer)
        if status != 201:
            raise ConnectionError(f"WHEP answered {status}")
        await connection.setRemoteDescription(RTCSessionDescription(answer.decode(), "answer"))
        async with asyncio.timeout(10):
            while connection.connectionState != "connected":
                await asyncio.sleep(0.02)
        yield connection, answer.decode()
    finally:
        http.close()
        await connection.close()
