"""aiortc as a publisher and as a player.

    aiortc_peer.py publish|play URL ADDRESS

ADDRESS is the one it sends from. A player prints what came twice a second, as JSON.
"""

import asyncio
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "interop"))

import aioice.ice  # noqa: E402
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402
from festival import post_offer  # noqa: E402
from peer_aiortc import Stripes, Tone, connected  # noqa: E402


async def main(role, url, address):
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [address]
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    tracks = []
    connection.on("track", tracks.append)
    if role == "publish":
        connection.addTrack(Tone(440))
        connection.addTrack(Stripes())
    else:
        connection.addTransceiver("audio", direction="recvonly")
        connection.addTransceiver("video", direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    status, _, answer = await asyncio.to_thread(post_offer, url, connection.localDescription.sdp)
    if status != 201:
        sys.exit(f"{status}: {answer}")
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await connected(connection)
    seen = {"frames": 0, "contrast": 0}
    for track in tracks:
        asyncio.create_task(watch(track, seen))
    while connection.connectionState == "connected":
        await asyncio.sleep(0.5)
        if role == "play":
            reports = [await receiver.getStats() for receiver in connection.getReceivers()]
            packets = sum(entry.packetsReceived for report in reports for entry in report.values() if entry.type == "inbound-rtp")
            print(json.dumps({"at": time.time(), "packets": packets, **seen}), flush=True)
    sys.exit(f"the connection is {connection.connectionState}")


async def watch(track, seen):
    while True:
        frame = await track.recv()
        if track.kind == "video":
            seen["frames"] += 1
            if seen["frames"] % 5 == 1:
                light = frame.to_ndarray(format="gray")
                seen["contrast"] = int(light.max()) - int(light.min())


asyncio.run(main(*sys.argv[1:]))
