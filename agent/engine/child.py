"""The gateway's end of an engine process: its start, its messages, its log and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import structlog

from agent.engine import wire
from agent.engine.contract import EngineInfo

log = structlog.get_logger(__name__)

_LEVELS = ("debug", "info", "warning", "error", "critical")
_LONGEST_LINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine a process runs.

    Attributes:
        factory: `module:function` that makes it.
        options: What the function is given; must be JSON.
        info: What the engine is, known before it is loaded.
        environment: Variables beside the gateway's own.
        nice: How far it stands back behind the gateway's process where cores are few: 0 not at all,
            19 as far as can be.
    """

    factory: str
    options: Mapping[str, object]
    info: EngineInfo
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0


class EngineChild:
    """One running engine process; made by `spawn`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        folder: tempfile.TemporaryDirectory[str],
    ) -> None:
        self._process = process
        self._folder = folder
        self._reader = reader
        self._writer = writer
        self._log = log.bind(engine_pid=process.pid)
        self._logging = asyncio.create_task(self._forward_log())

    @classmethod
    async def spawn(cls, spec: EngineSpec) -> EngineChild:
        """Start a process; it loads its engine by itself.

        In a session of its own, so that Ctrl-C at the terminal reaches the gateway alone, and
        with a folder for temporary files that goes when the process does, however it ends.

        Raises:
            OSError: No process can be started.
        """
        ours, theirs = socket.socketpair()
        folder = tempfile.TemporaryDirectory(prefix="va-engine-", ignore_cleanup_errors=True)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent.engine.process"),
                *("--fd", str(theirs.fileno())),
                *("--factory", spec.factory, "--options", json.dumps(dict(spec.options))),
                *("--scratch", folder.name, "--nice", str(spec.nice)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=_LONGEST_LINE_BYTES,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env={**os.environ, **spec.environment},
            )
        except BaseException:
            ours.close()
            folder.cleanup()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return cls(process, reader, writer, folder)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def send(self, message: wire.Request) -> None:
        """Send a message; never blocks, and is lost when the process is gone."""
        if not self._writer.is_closing():
            self._writer.write(wire.encode(message))

    async def reports(self) -> AsyncIterator[wire.Report]:
        """What it reports, until it is gone or talks nonsense."""
        try:
            while (message := await wire.read(self._reader)) is not None:
                yield message  # type: ignore[misc]  # a request would fall through our match
        except wire.WireError as error:
            self._log.error("the engine process cannot be understood", error=str(error))

    def kill(self) -> None:
        """End it at once."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    async def end(self, grace_s: float) -> str:
        """Let it leave within `grace_s`, else kill it.

        Returns:
            How it ended, in words.
        """
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            self._log.warning("the engine process does not leave and is killed")
        finally:
            self.kill()
            self._writer.close()
        code = await self._process.wait()
        await self._logging
        self._folder.cleanup()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    async def _forward_log(self) -> None:
        """Bring what it prints into our log; its own lines keep their level."""
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than the limit: what there is of it is skipped
                continue
            if not line:
                return
            text = line.decode(errors="replace").strip()
            if text:
                self._forward_line(text)

    def _forward_line(self, text: str) -> None:
        try:
            entry = json.loads(text)
            level, event = entry.pop("level"), entry.pop("event")
        except (ValueError, KeyError, AttributeError, TypeError):
            self._log.warning("the engine process printed", line=text)
            return
        entry.pop("time", None)
        write = getattr(self._log, level if level in _LEVELS else "warning")
        write(event, **{key: value for key, value in entry.items() if key.isidentifier()})
