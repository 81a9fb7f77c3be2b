"""aiortc as WHIP publisher and as WHEP player: an independent implementation of every layer."""

import asyncio
import datetime
import fractions
import re
import time

import aioice.ice
import numpy
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcdtlstransport import RTCCertificate
from av import AudioFrame, VideoFrame
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

import ffmpeg
from festival import Failed, delete, heard, post_offer

# Everything is on this machine; by itself aiortc leaves out the loopback interface.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]

RATE, FRAME = 48000, 960


class Tone(MediaStreamTrack):
    """A stereo sine of that frequency, in frames of 20 ms, on time."""

    kind = "audio"

    def __init__(self, hertz):
        super().__init__()
        self.hertz, self.position, self.began = hertz, 0, None

    async def recv(self):
        self.began = self.began or time.monotonic()
        await asyncio.sleep(max(0, self.began + self.position / RATE - time.monotonic()))
        at = numpy.arange(self.position, self.position + FRAME) / RATE
        wave = (numpy.sin(2 * numpy.pi * self.hertz * at) * 16000).astype(numpy.int16)
        frame = AudioFrame.from_ndarray(numpy.repeat(wave, 2).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self.position, fractions.Fraction(1, RATE)
        self.position += FRAME
        return frame


class Stripes(MediaStreamTrack):
    """Moving stripes, 320x180, 15 pictures a second."""

    kind = "video"

    def __init__(self):
        super().__init__()
        self.count, self.began = 0, None

    async def recv(self):
        self.began = self.began or time.monotonic()
        await asyncio.sleep(max(0, self.began + self.count / 15 - time.monotonic()))
        row = ((numpy.arange(320) + self.count * 4) // 20 % 2 * 200 + 30).astype(numpy.uint8)
        picture = numpy.repeat(numpy.tile(row, (180, 1))[:, :, None], 3, axis=2)
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = self.count * 6000, fractions.Fraction(1, 90000)
        self.count += 1
        return frame


def rsa_certificate():
    """Browsers of old and GStreamer have such; aiortc makes ECDSA ones only."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "interop")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + 30 * day)
    return RTCCertificate(key=key, cert=builder.sign(key, hashes.SHA256()))


async def publish(festival, stream, hertz, certificate=None, change=lambda sdp: sdp, wait=True):
    """A connection that publishes a tone and stripes, and the URL of its session."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    if certificate:
        # There is no public way to bring a certificate of one's own.
        setattr(connection, "_RTCPeerConnection__certificates", [certificate])
    connection.addTrack(Tone(hertz))
    connection.addTrack(Stripes())
    await connection.setLocalDescription(await connection.createOffer())
    offer = change(connection.localDescription.sdp)
    status, location, answer = await asyncio.to_thread(post_offer, f"{festival.stage}/whip/{stream}", offer)
    if status != 201:
        raise Failed(f"WHIP answered {status}: {answer}\n--- the offer ---\n{offer}")
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    if wait:
        await connected(connection)
    return connection, festival.stage + location


async def connected(connection, seconds=10):
    end = time.monotonic() + seconds
    while connection.connectionState != "connected":
        if time.monotonic() > end or connection.connectionState in ("failed", "closed"):
            raise Failed(f"the connection is {connection.connectionState}")
        await asyncio.sleep(0.02)


async def published(festival, stream, hertz, certificate=None):
    connection, session = await publish(festival, stream, hertz, certificate)
    try:
        await asyncio.to_thread(festival.live, stream)
        report = await asyncio.to_thread(festival.listen, stream)
        heard(report, hertz, video=True)
    finally:
        status = await asyncio.to_thread(delete, session)
        await connection.close()
    if status != 200:
        raise Failed(f"DELETE answered {status}")
    return report


def frequency(samples):
    """The strongest frequency of mono samples."""
    window = samples * numpy.hanning(len(samples))
    spectrum = numpy.abs(numpy.fft.rfft(window))
    return numpy.argmax(spectrum) * RATE / len(samples)


async def play(festival, stream, hertz, pictures):
    """Plays a stream in camping and measures what came: the tone's frequency, and pictures decoded."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("audio", direction="recvonly")
    connection.addTransceiver("video", direction="recvonly")
    tracks = {}
    connection.on("track", lambda track: tracks.setdefault(track.kind, track))
    await connection.setLocalDescription(await connection.createOffer())
    status, location, answer = await asyncio.to_thread(post_offer, f"{festival.camping}/whep/{stream}", connection.localDescription.sdp)
    if status != 201:
        raise Failed(f"WHEP answered {status}: {answer}")
    began = time.monotonic()
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await connected(connection)

    samples, seen, first = [], [], {}

    async def hear():
        while len(samples) < 150:
            frame = await tracks["audio"].recv()
            first.setdefault("audio", time.monotonic() - began)
            samples.append(frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0])

    async def see():
        while len(seen) < pictures:
            frame = await tracks["video"].recv()
            first.setdefault("video", time.monotonic() - began)
            seen.append(frame.to_ndarray(format="gray").std())

    try:
        await asyncio.wait_for(asyncio.gather(hear(), see()), 15)
    except asyncio.TimeoutError:
        raise Failed(f"in 15 s came {len(samples)} frames of sound and {len(seen)} pictures of {pictures}") from None
    finally:
        await asyncio.to_thread(delete, festival.camping + location)
        await connection.close()
    sound = numpy.concatenate(samples[50:]).astype(float)
    found, level = frequency(sound), 20 * numpy.log10(numpy.sqrt(numpy.mean(sound**2)) / 32768 + 1e-9)
    if abs(found - hertz) > 3 or level < -45:
        raise Failed(f"heard {found:.1f} Hz at {level:.1f} dBFS instead of {hertz} Hz")
    if max(seen) < 10:
        raise Failed("the pictures are blank")
    return {"hertz": round(float(found), 1), "level_dbfs": round(float(level), 1), "pictures": len(seen),
            "first_ms": {kind: round(after * 1000) for kind, after in first.items()}}  # fmt: skip


async def test_aiortc_publishes(festival):
    """aiortc publishes a tone and VP8, with an ECDSA certificate."""
    return await published(festival, "aiortc", 440)


async def test_aiortc_publishes_with_rsa(festival):
    """The same with an RSA certificate."""
    return await published(festival, "aiortc-rsa", 494, rsa_certificate())


async def test_aiortc_plays_vp8(festival):
    """aiortc plays in camping what aiortc publishes at the stage."""
    connection, session = await publish(festival, "aiortc-vp8", 587)
    try:
        await asyncio.to_thread(festival.live, "aiortc-vp8")
        return await play(festival, "aiortc-vp8", 587, pictures=20)
    finally:
        await asyncio.to_thread(delete, session)
        await connection.close()


async def test_aiortc_plays_h264(festival):
    """aiortc plays in camping what ffmpeg publishes at the stage; it comes late and gets a picture all the same."""
    process = ffmpeg.start(festival, "ffmpeg-h264", 698, seconds=20)
    try:
        await asyncio.to_thread(festival.live, "ffmpeg-h264")
        return await play(festival, "ffmpeg-h264", 698, pictures=40)
    finally:
        process.terminate()


async def test_a_wrong_fingerprint_never_connects(festival):
    """Number 10 of the list of bad input: the certificate is another than the offer says."""

    def lie(sdp):
        digits = re.compile(r"(a=fingerprint:sha-256 )(..)", re.I)
        return digits.sub(lambda found: found[1] + ("00" if found[2] != "00" else "01"), sdp)

    certificate = RTCCertificate.generateCertificate()
    connection, session = await publish(festival, "liar", 440, certificate, lie, wait=False)
    await asyncio.sleep(4)
    listed = [stream["name"] for stream in festival.get(festival.stage, "/api/v1/streams")]
    metrics = connection.connectionState
    await asyncio.to_thread(delete, session)
    await connection.close()
    if "liar" in listed:
        raise Failed(f"a stream with a wrong fingerprint went live ({metrics})")
    return {"state": metrics}
