"""Runs the interop tests: peers that are not ours, against two real relays.

    run.py --bin target/debug [--gst-whip PATH] [NAME …]

NAME selects tests whose name contains it. Prints a line per test and what it measured.
"""

import argparse
import asyncio
import inspect
import sys
import time
import traceback

import gstreamer
from festival import Failed, Festival


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="where relay-node and signaling-client are")
    parser.add_argument("--gst-whip", help="the GStreamer publisher; without it its test is left out")
    parser.add_argument("--media-address", default="127.0.0.1", help="where the relays take media: GStreamer calls no loopback address")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    tests = []
    if arguments.gst_whip:
        gstreamer.BINARY = arguments.gst_whip
        tests += functions(gstreamer)
    try:
        import dtls_tools
        import ffmpeg
        import peer_aiortc

        tests += functions(ffmpeg) + functions(peer_aiortc) + functions(dtls_tools)
    except ImportError as error:
        if not arguments.gst_whip:
            raise
        print(f"only GStreamer: {error}")
    tests = [test for test in tests if not arguments.names or any(name in test.__name__ for name in arguments.names)]

    festival = Festival(arguments.bin, arguments.media_address)
    passed = failed = 0
    for test in tests:
        began = time.monotonic()
        try:
            measured = asyncio.run(test(festival)) if inspect.iscoroutinefunction(test) else test(festival)
            print(f"{test.__name__:<44} ok      {time.monotonic() - began:5.1f} s  {measured}", flush=True)
            passed += 1
        except Exception as error:
            why = str(error) if isinstance(error, Failed) else traceback.format_exc()
            print(f"{test.__name__:<44} FAILED  {time.monotonic() - began:5.1f} s  {why}", flush=True)
            for zone in ("stage", "camping"):
                print(f"---- log of {zone} ----\n{festival.log(f'relay {zone}', lines=8)}", flush=True)
            failed += 1
    festival.close()
    print(f"\n{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


def functions(module):
    return [value for name, value in vars(module).items() if name.startswith("test_") and value.__module__ == module.__name__]


main()
