#!/usr/bin/env python3
"""How many microphones one gateway process can listen to.

    scripts/bench_gateway.py --streams 200 --seconds 30 --recording speech.wav
    scripts/bench_gateway.py --transport webrtc --streams 50 --recording speech.wav

Starts the real server in a process of its own and, in another one, opens N sessions that send in
real time, over WebSockets binary PCM16 at 24 kHz in 40 ms pieces, over WebRTC Opus that was encoded
before in packets of 20 ms: low noise, which no server can skip, and on one stream at a time the
recording. Answers are off (`create_response: false`), so the
engine only listens. After a warm-up it measures, and prints one JSON line:

    streams              N
    dropped              40 ms pieces that were sent and not taken in, over the whole run
    loop_delay_p99_ms    99th percentile of how late the server's event loop was
    cpu_percent          CPU time of the gateway process; 100 is one core
    rss_mb               memory of the gateway process
    messages_per_s       what arrived while measuring
    sender_late_p99_ms   how late this script sent; large when the machine was too busy for it
    turns_spoken, turns_seen    recordings played, and turns that the server committed
    engine_cpu_percent, engine_rss_mb    the same for the engine's process
    sender_cpu_percent, others_cpu_percent    of this script, and of all else on the machine:
                         with others at work the delay measures them
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.gateway_bench import webrtc, websocket
from scripts.gateway_bench.load import PIECE_S, Load
from scripts.gateway_bench.server import AUDIO, Server, Snapshot, percentile_ms, scrape

WARM_UP_S = 3.0
SETTLE_TIMEOUT_S = 10.0
SENDERS = {"websocket": websocket.send_load, "webrtc": webrtc.send_load}


def settle(url: str, received_before_s: float, sent_s: float) -> float:
    """Wait until all that was sent is taken in, or nothing more is; seconds that are missing."""
    missing_s, progress_s = sent_s, time.monotonic()
    while missing_s > PIECE_S / 2 and time.monotonic() < progress_s + SETTLE_TIMEOUT_S:
        time.sleep(0.2)
        still_missing_s = sent_s - (scrape(url)[AUDIO][""] - received_before_s)
        if still_missing_s < missing_s:
            missing_s, progress_s = still_missing_s, time.monotonic()
    return missing_s


def measure(server: Server, options: argparse.Namespace) -> dict[str, object]:
    """Run the load and put the numbers together."""
    context = multiprocessing.get_context("spawn")
    pipe, other_end = context.Pipe()
    port = int(server.url.rpartition(":")[2])
    seconds = WARM_UP_S + options.seconds
    sender = context.Process(
        target=SENDERS[options.transport],
        args=(port, options.streams, seconds, options.recording, other_end),
    )
    sender.start()
    other_end.close()
    pipe.recv()
    before_all = scrape(server.url)
    pipe.send("go")
    time.sleep(WARM_UP_S)
    before = Snapshot.take(server)
    pieces = pipe.recv()
    after = Snapshot.take(server)
    missing_s = settle(server.url, before_all[AUDIO][""], pieces * PIECE_S)
    pipe.send("enough")
    load: Load = pipe.recv()
    sender.join()
    return {"transport": options.transport, "streams": options.streams} | report(
        before, after, load, missing_s
    )


def report(before: Snapshot, after: Snapshot, load: Load, missing_s: float) -> dict[str, object]:
    """The line to print, without the number of streams."""
    lasted_s = after.time_s - before.time_s
    received_s = after.metrics[AUDIO][""] - before.metrics[AUDIO][""]
    gateway = 100 * (after.gateway_cpu_s - before.gateway_cpu_s) / lasted_s
    engine = 100 * (after.engine_cpu_s - before.engine_cpu_s) / lasted_s
    machine = 100 * (after.machine_cpu_s - before.machine_cpu_s) / lasted_s
    return {
        "dropped": round(missing_s / PIECE_S),
        "loop_delay_p99_ms": round(percentile_ms(before.metrics, after.metrics, 0.99), 1),
        "cpu_percent": round(gateway, 1),
        "rss_mb": round(after.gateway_rss_mb),
        "messages_per_s": round(received_s / PIECE_S / lasted_s),
        "sender_late_p99_ms": round(1000 * float(np.percentile(load.late_s, 99)), 1),
        "turns_spoken": load.spoken,
        "turns_seen": load.seen,
        "engine_cpu_percent": round(engine, 1),
        "engine_rss_mb": round(after.engine_rss_mb),
        "sender_cpu_percent": round(load.cpu_percent, 1),
        "others_cpu_percent": round(max(0.0, machine - gateway - engine - load.cpu_percent), 1),
        "seconds": round(lasted_s, 1),
        "errors": load.errors[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transport", choices=tuple(SENDERS), default="websocket")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the measurement")
    parser.add_argument("--recording", type=Path, help="speech, in any format `say` can read")
    parser.add_argument(
        "server_options", nargs="*", help="options for `voice-agent serve`, after --"
    )
    options = parser.parse_args()
    server = Server(options.server_options, options.streams)
    try:
        print(json.dumps(measure(server, options)), flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
