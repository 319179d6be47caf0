#!/usr/bin/env python3
"""How many microphones one gateway process can listen to.

    scripts/bench_gateway.py --streams 200 --seconds 30 --recording speech.wav

Starts the real server in a process of its own and, in another one, opens N sessions that send
binary PCM16 at 24 kHz in 40 ms pieces, in real time: low noise, which no server can skip, and
on one stream at a time the recording. Answers are off (`create_response: false`), so the
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
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from agent.client.recording import read_recording

RATE_HZ = 24_000
PIECE_S = 0.04
PIECE_SAMPLES = int(RATE_HZ * PIECE_S)
PIECE_BYTES = 2 * PIECE_SAMPLES

NOISE_DBFS = -60.0
NOISE_PIECES = 250  # 10 s, repeated
GAP_S = 3.0  # between two recordings
WARM_UP_S = 3.0
START_TIMEOUT_S = 300.0
SETTLE_TIMEOUT_S = 10.0

AUDIO = "voice_agent_audio_received_seconds_total"
LOOP_DELAY = "voice_agent_event_loop_delay_seconds_bucket"
# A long silence limit: a recording with pauses in it is still one turn.
TURN_DETECTION = {"type": "server_vad", "silence_duration_ms": 1500, "create_response": False}
SETTINGS = {
    "type": "session.update",
    "session": {
        "type": "realtime",
        "audio": {"input": {"turn_detection": TURN_DETECTION}},
    },
}


# ---------------------------------------------------------------- audio


def frame(pcm: bytes) -> bytes:
    """One binary WebSocket message; the mask is zero, which the server cannot tell."""
    return b"\x82\xfe" + len(pcm).to_bytes(2, "big") + b"\x00\x00\x00\x00" + pcm


def frames(samples: np.ndarray) -> list[bytes]:
    """float32[T] at 24 kHz as messages of 40 ms; a last part is filled up with silence."""
    padded = np.pad(samples, (0, -samples.size % PIECE_SAMPLES))
    pcm = (np.clip(padded, -1, 1) * 32767).astype("<i2")
    return [frame(piece.tobytes()) for piece in pcm.reshape(-1, PIECE_SAMPLES)]


def noise_frames() -> list[bytes]:
    """Ten seconds of noise at the level of a quiet room."""
    noise = np.random.default_rng(0).standard_normal(NOISE_PIECES * PIECE_SAMPLES)
    return frames(noise * 10 ** (NOISE_DBFS / 20))


# ---------------------------------------------------------------- load, in a process of its own


@dataclass
class Load:
    """What the sending process reports.

    Attributes:
        pieces: Messages sent.
        spoken: Recordings played to their end.
        seen: Turns that the server committed.
        errors: Error events and early ends, as text.
        late_s: How late each message was sent.
        cpu_percent: CPU time of the sending; 100 is one core.
    """

    pieces: int = 0
    spoken: int = 0
    seen: int = 0
    errors: list[str] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    cpu_percent: float = 0.0


class Stream:
    """One session: a blocking socket and websockets' protocol without I/O."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/v1/realtime"))
        self.protocol.send_request(self.protocol.connect())
        self._flush()
        while not any(event["type"] == "session.created" for event in self.receive()):
            pass
        self.protocol.send_text(json.dumps(SETTINGS).encode())
        self._flush()

    def receive(self) -> list[dict[str, object]]:
        """Events that have arrived; answers pings."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.protocol.receive_data(data)
        self._flush()
        return [
            json.loads(bytes(message.data))
            for message in self.protocol.events_received()
            if isinstance(message, Frame) and message.opcode is Opcode.TEXT
        ]

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)


class Speaker:
    """Says the recording on one stream after the other, with a gap between."""

    def __init__(self, recording: list[bytes], streams: int) -> None:
        self._recording = recording
        self._streams = streams
        self._gap_pieces = round(GAP_S / PIECE_S)
        self._period = len(recording) + self._gap_pieces

    def piece(self, stream: int, tick: int) -> bytes | None:
        """What `stream` says in this tick, or None when it is silent."""
        if not self._recording:
            return None
        round_number, position = divmod(tick, self._period)
        if stream != round_number % self._streams or position >= len(self._recording):
            return None
        return self._recording[position]

    def spoken(self, ticks: int) -> int:
        """Recordings finished after so many ticks, and long enough for their turn to end."""
        return ticks // self._period if self._recording else 0

    def whole(self, ticks: int) -> int:
        """The next tick from `ticks` on at which nobody speaks and no turn is open."""
        return -(-ticks // self._period) * self._period if self._recording else ticks


def send_load(port: int, count: int, seconds: float, path: Path | None, pipe: Connection) -> None:
    """Open the streams, say `ready`, send for `seconds` from `go` on, report."""
    recording = frames(read_recording(path).at_rate(RATE_HZ)) if path else []
    noise = noise_frames()
    streams = [Stream(port) for _ in range(count)]
    speaker = Speaker(recording, count)
    load = Load()
    poller = select.epoll()
    by_descriptor = {stream.socket.fileno(): stream for stream in streams}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.EPOLLIN)
    pipe.send("ready")
    pipe.recv()
    ticks = speaker.whole(round(seconds / PIECE_S))
    began_s, cpu_before_s = time.monotonic(), time.process_time()
    for tick in range(ticks):
        for index, stream in enumerate(streams):
            due_s = began_s + (tick + index / count) * PIECE_S
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            piece = speaker.piece(index, tick) or noise[(tick + 7 * index) % NOISE_PIECES]
            stream.socket.sendall(piece)
            load.late_s.append(max(0.0, time.monotonic() - due_s))
        load.pieces += count
        read_events(poller, by_descriptor, load)
    lasted_s = time.monotonic() - began_s
    load.cpu_percent = 100 * (time.process_time() - cpu_before_s) / lasted_s
    load.spoken = speaker.spoken(ticks)
    pipe.send(load.pieces)
    while not pipe.poll(0.05):
        read_events(poller, by_descriptor, load)
    pipe.send(load)


def read_events(poller: select.epoll, streams: dict[int, Stream], load: Load) -> None:
    """Take what the server has sent."""
    for descriptor, _ in poller.poll(0):
        for event in streams[descriptor].receive():
            if event["type"] == "input_audio_buffer.committed":
                load.seen += 1
            elif event["type"] == "error":
                load.errors.append(json.dumps(event["error"]))


# ---------------------------------------------------------------- the server


Metrics = dict[str, dict[str, float]]
"""By sample name and, for buckets, upper bound (else "")."""


def scrape(url: str) -> Metrics:
    """The server's metrics, summed over labels other than `le`."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310  # ours
        text = answer.read().decode()
    found: Metrics = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            bound = sample.labels.get("le", "")
            values[bound] = values.get(bound, 0.0) + sample.value
    return found


def percentile_ms(before: Metrics, after: Metrics, share: float) -> float:
    """A percentile of the loop delay between two scrapes; linear within its bucket."""
    bounds = sorted((float(bound), bound) for bound in after[LOOP_DELAY])
    counts = [after[LOOP_DELAY][b] - before[LOOP_DELAY][b] for _, b in bounds]
    wanted = share * counts[-1]
    lower_s, below = 0.0, 0.0
    for (upper_s, _), count in zip(bounds, counts, strict=True):
        if count >= wanted:
            if upper_s == float("inf"):
                return 1000 * lower_s
            inside = (wanted - below) / (count - below) if count > below else 1.0
            return 1000 * (lower_s + inside * (upper_s - lower_s))
        lower_s, below = upper_s, count
    raise ValueError("a histogram ends with an infinite bucket")


def children(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def engine_usage(pid: int) -> tuple[float, float]:
    """CPU seconds and megabytes of the processes that the server has started."""
    cpu_s, rss_mb = 0.0, 0.0
    for child in children(pid):
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        rss_mb += int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return cpu_s, rss_mb


def machine_busy_s() -> float:
    """CPU seconds that all processes of the machine have used."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, Path("/proc/stat").read_text().split()[1:8]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment."""

    time_s: float
    metrics: Metrics
    gateway_cpu_s: float
    gateway_rss_mb: float
    engine_cpu_s: float
    engine_rss_mb: float
    machine_cpu_s: float

    @classmethod
    def take(cls, server: Server) -> Snapshot:
        metrics = scrape(server.url)
        return cls(
            time.monotonic(),
            metrics,
            metrics["process_cpu_seconds_total"][""],
            metrics["process_resident_memory_bytes"][""] / 2**20,
            *engine_usage(server.pid),
            machine_busy_s(),
        )


class Server:
    """`voice-agent serve` on a free port."""

    def __init__(self, options: list[str], streams: int) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"VOICE_AGENT_LIMITS__MAX_SESSIONS": str(streams + 1)},
        )
        self.pid = self._process.pid
        self.url = self._wait_for_address()

    def _wait_for_address(self) -> str:
        assert self._process.stdout is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        for line in self._process.stdout:
            print(line.rstrip(), file=sys.stderr)
            if found := re.search(r"http://[\w.:]+", line):
                return found[0]
            if time.monotonic() > deadline_s:
                break
        self.stop()
        raise SystemExit("the server did not start")

    def stop(self) -> None:
        """End it, and show its log if it ended badly."""
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait() != 0:
            self._log.seek(0)
            print(self._log.read()[-4000:], file=sys.stderr)


# ---------------------------------------------------------------- the measurement


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
        target=send_load, args=(port, options.streams, seconds, options.recording, other_end)
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
    return {"streams": options.streams} | report(before, after, load, missing_s)


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
