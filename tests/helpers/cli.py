"""Runs `voice-agent` as a process of its own, as its users do."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from tests.helpers.patience import PATIENCE_S


@dataclass
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output, one JSON object a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


async def start(*arguments: object) -> asyncio.subprocess.Process:
    """Start a command; settings of the environment are not passed on."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("VOICE_AGENT_")
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.cli",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )


async def run(*arguments: object, timeout_s: float = PATIENCE_S) -> Done:
    """Run a command to its end."""
    process = await start(*arguments)
    stdout, stderr = await asyncio.wait_for(process.communicate(), timeout_s)
    assert process.returncode is not None
    return Done(process.returncode, stdout.decode(), stderr.decode())
