"""ffmpeg 8 and newer as WHIP publisher: DTLS passive by default, active on request."""

import os
import pathlib

from festival import Failed, heard

RECORDED = pathlib.Path(__file__).parents[2] / ".cache/python/ffmpeg"


def binary():
    """ffmpeg with WHIP: the one that set-up put beside Python."""
    return os.environ.get("FFMPEG") or RECORDED.read_text().strip()


def start(festival, stream, hertz, *options, seconds=12):
    command = [
        binary(), "-hide_banner", "-loglevel", "info", "-re",
        "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30",
        "-f", "lavfi", "-i", f"sine=frequency={hertz}:sample_rate=48000",
        "-t", str(seconds), "-af", "volume=4",
        "-c:v", "libx264", "-pix_fmt", "yuv420p", "-profile:v", "baseline", "-preset", "ultrafast", "-tune", "zerolatency",
        "-g", "30", "-bf", "0", "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-b:a", "128k",
        *options, "-f", "whip", f"{festival.stage}/whip/{stream}",
    ]  # fmt: skip
    return festival.start(f"ffmpeg {stream}", command)


def publishes(festival, stream, hertz, *options):
    process = start(festival, stream, hertz, *options)
    try:
        live = festival.live(stream)
    except Failed as failed:
        raise Failed(f"{failed}\n{festival.log(f'ffmpeg {stream}')}") from failed
    kinds = {track["kind"] for track in live["tracks"]}
    if kinds != {"audio", "video"}:
        raise Failed(f"the stream has {live['tracks']}")
    report = festival.listen(stream)
    heard(report, hertz, video=True)
    if process.wait(30) != 0:
        raise Failed(f"ffmpeg ended with {process.returncode}: {festival.log(f'ffmpeg {stream}')}")
    return report


def test_ffmpeg_passive(festival):
    """ffmpeg as it comes: a=setup:passive."""
    return publishes(festival, "ffmpeg-passive", 523)


def test_ffmpeg_dtls_active(festival):
    """ffmpeg -whip_flags dtls_active."""
    return publishes(festival, "ffmpeg-active", 659, "-whip_flags", "dtls_active")
