"""The real server as its users run it: a process of its own, found by what it prints."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.patience import PATIENCE_S

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 30


@dataclass
class RunningServer:
    """A server process that is ready.

    Attributes:
        process: The gateway.
        url: Its address, without a slash at the end.
        lines: What it printed for people.
        logs: Its log lines so far, parsed.
    """

    process: subprocess.Popen[str]
    url: str
    lines: list[str]
    logs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """Where OpenAI clients point their `websocket_base_url`."""
        return self.url.replace("http", "ws", 1) + "/v1"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    @property
    def ws_url(self) -> str:
        """The realtime endpoint."""
        return self.base_url + "/realtime"

    def get(self, path: str) -> str:
        """The body of a page."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        pattern = re.compile(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", re.MULTILINE)
        return sum(float(value) for value in pattern.findall(self.get("/metrics")))

    def engine_pids(self) -> list[int]:
        """The processes it has started."""
        children = f"/proc/{self.process.pid}/task"
        pids = []
        for task in os.listdir(children):
            with open(f"{children}/{task}/children", encoding="ascii") as file:
                pids += [int(pid) for pid in file.read().split()]
        return pids


@contextmanager
def running_server(
    *options: str, engine: str = "small", port: int = 0, **environment: str
) -> Iterator[RunningServer]:
    """Run `voice-agent serve` until the block ends or it is killed; on a free port by default."""
    command = [
        sys.executable, "-m", "agent.cli", "serve", "--port", str(port), "--engine", engine,
        *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    lines: list[str] = []
    logs: list[dict[str, Any]] = []
    raw_logs: list[str] = []
    ready = threading.Event()
    url: list[str] = []

    def read_lines() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            found = re.search(r"https?://[\w.\[\]:]+:\d+", line)
            if found and not url:
                url.append(found[0])
                ready.set()
        ready.set()

    def read_logs() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            raw_logs.append(line.rstrip())
            if line.startswith("{"):
                logs.append(json.loads(line))

    readers = [threading.Thread(target=read, daemon=True) for read in (read_lines, read_logs)]
    for reader in readers:
        reader.start()
    try:
        assert ready.wait(START_TIMEOUT_S), "the server did not get ready"
        assert url, "the server ended: " + "\n".join([*lines, *raw_logs][-30:])
        yield RunningServer(process, url[0], lines, logs)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            for reader in readers:
                reader.join(5)
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                stream.close()
