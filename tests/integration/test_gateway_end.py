"""How the gateway ends: by a signal, in the middle of sessions, and where it cannot begin."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from agent.errors import ConfigError
from agent.gateway.server import bind, page_address
from tests.helpers.gateway import NotRefused, event, gateway, metric, refused
from tests.helpers.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


async def test_a_shutdown_closes_sessions_with_going_away():
    async with gateway() as running:
        client = await connect(running.ws_url)
        await event(client)
    await client.wait_closed()
    assert (client.close_code, client.close_reason) == (1001, "the server is shutting down")
    assert running.engine.stopped
    assert metric(running, "voice_agent_sessions_total", outcome="shutdown") == 1


def test_who_stops_reading_the_logs_can_still_stop_the_server(unread: subprocess.Popen[str]):
    unread.send_signal(signal.SIGTERM)
    assert unread.wait(PATIENCE_S) == 0


async def test_a_session_that_ignores_the_shutdown_is_ended():
    async with gateway() as running:
        client = await connect(running.ws_url)
        await event(client)
        await client.send("stubborn")
        await event(client)
    await client.wait_closed()
    assert client.close_code == 1001


@pytest.fixture
async def program() -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.helpers.gateway",
        cwd=ROOT,
        env={"VOICE_AGENT_LIMITS__SHUTDOWN_GRACE_S": "60"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    yield process
    if process.returncode is None:
        process.kill()
    await process.communicate()


@pytest.fixture
def unread() -> Iterator[subprocess.Popen[str]]:
    """A gateway that is ready, and whose lines and logs nobody reads any more."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.gateway"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if "Open http" in line:
            break
    process.stdout.close()
    process.stderr.close()
    yield process
    process.kill()
    process.wait()


async def _until_ready(program: asyncio.subprocess.Process) -> str:
    """Read the program's output up to its address; give the realtime endpoint."""
    assert program.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        async for line in program.stdout:
            if b"Open http" in line:
                return line.decode().split()[1].replace("http", "ws", 1) + "v1/realtime"
    raise AssertionError("the program ended")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_program_cleanly(program, number):
    async with connect(await _until_ready(program)) as client:
        await event(client)
        program.send_signal(number)
        await client.wait_closed()
        assert client.close_code == 1001
    async with asyncio.timeout(PATIENCE_S):
        _, stderr = await program.communicate()
    assert program.returncode == 0
    logged = [json.loads(line) for line in stderr.splitlines()]
    assert [line["event"] for line in logged if line["level"] != "info"] == []
    assert "stopping" in [line["event"] for line in logged]
    opened, closed = (line for line in logged if line["event"].startswith("session "))
    assert closed["session_id"] == opened["session_id"]
    assert (closed["outcome"], closed["code"], closed["messages"]) == ("shutdown", 1001, 0)
    assert closed["duration_s"] >= 0


async def test_a_second_signal_does_not_wait_for_the_grace_time(program):
    url = await _until_ready(program)
    async with connect(url) as client:
        await event(client)
        await client.send("stubborn")
        await event(client)
        program.send_signal(signal.SIGTERM)
        while True:  # it is draining once it admits nobody
            status, error = await refused_or_open(url)
            if status == 503:
                break
        assert error["code"] == "shutting_down"
        program.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_S):
            await program.communicate()
    assert program.returncode == 0


async def refused_or_open(url: str) -> tuple[int, dict[str, Any]]:
    try:
        return await refused(url)
    except NotRefused:
        return 101, {}


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")]
)
def test_the_shown_address_can_be_opened(host, shown):
    try:
        listener = bind(host, 0)
    except ConfigError:
        pytest.skip(f"this machine has no {host}")
    with listener:
        port = listener.getsockname()[1]
        assert page_address(listener) == f"http://{shown}:{port}/"
