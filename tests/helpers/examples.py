"""Runs the examples of docs/embedding.md as their users would: as programs of their own."""

from __future__ import annotations

import codecs
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.patience import PATIENCE_S
from tests.helpers.speech import ROOT

EXAMPLES = ROOT / "docs" / "examples"
SDK = ROOT / "tests" / "sdk_js"
SDK_BUNDLE = SDK / "node_modules" / "@openai" / "agents-realtime" / "dist" / "bundle"


class Program:
    """A running example.

    Attributes:
        text: What it printed so far, standard error included.
    """

    def __init__(self, command: Sequence[str | Path], **environment: str) -> None:
        self.text = ""
        self._printed = threading.Condition()
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        """What it printed, the line that it is printing included."""
        return self.text.splitlines()

    def until_printed(self, pattern: str) -> re.Match[str]:
        """Wait for something that a regular expression matches."""
        with self._printed:
            self._printed.wait_for(
                lambda: re.search(pattern, self.text) or not self._reader.is_alive(), PATIENCE_S
            )
        found = re.search(pattern, self.text)
        assert found, f"{pattern!r} was not printed, but: {self.text}"
        return found

    def until_done(self) -> list[str]:
        """Wait for its good end; all that it printed."""
        status = self._process.wait(PATIENCE_S)
        self._reader.join(5)
        assert status == 0, self.text
        return self.lines

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(10)
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        while data := os.read(self._process.stdout.fileno(), 65_536):
            with self._printed:
                self.text += decode(data)
                self._printed.notify_all()


@contextmanager
def program(*command: str | Path, **environment: str) -> Iterator[Program]:
    """Run a program until the block ends."""
    running = Program(command, **environment)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def python_example(name: str, *options: str, **environment: str) -> Iterator[Program]:
    """Run a Python example until the block ends."""
    with program(sys.executable, EXAMPLES / name, *options, **environment) as running:
        yield running


@dataclass(frozen=True, slots=True)
class NodeProject:
    """A folder in which the JavaScript SDK is installed."""

    folder: Path

    @contextmanager
    def run(self, script: Path, *options: str, **environment: str) -> Iterator[Program]:
        """Run a script as one of this folder's until the block ends."""
        shutil.copy(script, self.folder)
        with program("node", self.folder / script.name, *options, **environment) as running:
            yield running


def require_sdk() -> None:
    """Skip the test where the JavaScript SDK was not fetched."""
    if not SDK_BUNDLE.is_dir():
        pytest.skip(f"no JavaScript SDK: run `npm ci` in {SDK.relative_to(ROOT)}")


def node_project(folder: Path) -> NodeProject:
    """A project with the SDK in it; skips the test without Node 20 or the SDK."""
    require_sdk()
    node = shutil.which("node")
    version = subprocess.check_output([node, "--version"], text=True).strip() if node else ""
    if int(version.lstrip("v").partition(".")[0] or 0) < 20:
        pytest.skip(f"no Node 20 or newer (found: {version or 'none'})")
    (folder / "node_modules").symlink_to(SDK / "node_modules")
    return NodeProject(folder)
