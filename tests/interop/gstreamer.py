"""GStreamer's whipclientsink, out of a small program of its own (gst-whip): RSA, all candidates in the offer."""

from festival import Failed, heard

BINARY = None


def test_gstreamer_whipclientsink(festival):
    """whipclientsink publishes a tone and VP8."""
    if not BINARY:
        raise Failed("gst-whip is not built: script/test gstreamer")
    festival.start("gst-whip", [BINARY, f"{festival.stage}/whip/gstreamer", "784"])
    try:
        festival.live("gstreamer")
    except Failed as failed:
        raise Failed(f"{failed}\n{festival.log('gst-whip')}") from failed
    report = festival.listen("gstreamer")
    heard(report, 784, video=True)
    return report
