"""GStreamer's webrtcbin as a publisher and as a player, as the whip and whep elements are built around it.

    gst.py publish|play URL

Wants the system's Python with GObject introspection. A player prints what came twice a second, as JSON.
"""

import json
import sys
import time
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

SOUND = "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,encoding-params=(string)2,payload=96"
PICTURE = "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=97"
PUBLISH = f"""
    webrtcbin name=peer bundle-policy=max-bundle
    audiotestsrc is-live=true freq=330 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay pt=96 ! {SOUND} ! peer.
    videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 ! vp8enc deadline=1 keyframe-max-dist=30
      ! rtpvp8pay pt=97 ! {PICTURE} ! peer.
"""
DECODE = "queue ! rtpvp8depay ! vp8dec ! videoconvert ! video/x-raw,format=GRAY8 ! fakesink name=sink sync=false signal-handoffs=true"


class Peer:
    def __init__(self, role, url):
        self.url, self.loop, self.status = url, GLib.MainLoop(), 0
        self.seen = {"packets": 0, "frames": 0, "contrast": 0}
        if role == "publish":
            self.pipeline = Gst.parse_launch(PUBLISH)
            self.peer = self.pipeline.get_by_name("peer")
        else:
            self.pipeline, self.peer = Gst.Pipeline(), Gst.ElementFactory.make("webrtcbin", "peer")
            Gst.util_set_object_arg(self.peer, "bundle-policy", "max-bundle")
            self.pipeline.add(self.peer)
            self.peer.connect("pad-added", self.play)
        self.peer.connect("on-negotiation-needed", self.negotiate)
        self.peer.connect("notify::ice-gathering-state", self.gathered)
        if role == "play":
            for caps in (SOUND, PICTURE):
                self.peer.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, Gst.Caps.from_string(caps))
            GLib.timeout_add(500, self.tell)

    def run(self):
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _, message: self.end(message.parse_error()))
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        return self.status

    def end(self, why):
        print(why, file=sys.stderr, flush=True)
        self.status = 1
        self.loop.quit()

    def negotiate(self, *_):
        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered, None))

    def offered(self, promise, *_):
        # The offer lives as long as the reply it is in.
        reply = promise.get_reply()
        self.peer.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def gathered(self, *_):
        if self.peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self.post)

    def post(self):
        offer = self.peer.get_property("local-description").sdp.as_text()
        try:
            request = urllib.request.Request(self.url, offer.encode(), {"Content-Type": "application/sdp"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
        except OSError as error:
            self.end(f"{error}: {getattr(error, 'read', bytes)()}")
            return
        _, sdp = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(text, sdp)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.peer.emit("set-remote-description", answer, Gst.Promise.new())

    def play(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        is_picture = "video" in pad.get_current_caps().to_string()
        sink = Gst.parse_bin_from_description(DECODE if is_picture else "queue ! rtpopusdepay ! opusdec ! fakesink", True)
        self.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.add_probe(Gst.PadProbeType.BUFFER, self.came)
        pad.link(sink.get_static_pad("sink"))
        if is_picture:
            sink.get_by_name("sink").connect("handoff", self.decoded)

    def came(self, *_):
        self.seen["packets"] += 1
        return Gst.PadProbeReturn.OK

    def decoded(self, _, buffer, __):
        self.seen["frames"] += 1
        if self.seen["frames"] % 5 == 1:
            good, shown = buffer.map(Gst.MapFlags.READ)
            if good:
                light = shown.data[:: max(1, shown.size // 2000)]
                self.seen["contrast"] = max(light) - min(light)
                buffer.unmap(shown)

    def tell(self):
        print(json.dumps({"at": time.time(), **self.seen}), flush=True)
        return True


Gst.init(None)
sys.exit(Peer(*sys.argv[1:3]).run())
