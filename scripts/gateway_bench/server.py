"""The real server in a process of its own, and what it and the machine are doing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from scripts.memory_growth import rss_mb

START_TIMEOUT_S = 300.0
AUDIO = "voice_agent_audio_received_seconds_total"
LOOP_DELAY = "voice_agent_event_loop_delay_seconds_bucket"

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
    started = children(pid)
    cpu_s = 0.0
    for child in started:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu_s, rss_mb(started)


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
