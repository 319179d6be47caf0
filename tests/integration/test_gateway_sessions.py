"""Sessions of the gateway on real sockets: what clients do to them, and to others."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from agent.gateway import websocket, wire
from tests.helpers.certificate import make_certificate
from tests.helpers.gateway import RunningGateway, event, gateway, get, until_metric
from tests.helpers.patience import PATIENCE_S


@pytest.fixture
async def running() -> AsyncIterator[RunningGateway]:
    async with gateway() as started:
        yield started


async def test_a_session_gets_its_query_and_all_messages(running):
    async with connect(f"{running.ws_url}?model=gpt-realtime") as client:
        created = await event(client)
        assert created["id"].startswith("sess_")
        assert created["model"] == "gpt-realtime"
        await client.send("text")
        await client.send(b"\x00\x01\x02")
        await client.send([b"\x00" * 1000, b"\x00" * 24])
        assert await event(client) == {"type": "got.str", "size": 4}
        assert await event(client) == {"type": "got.bytes", "size": 3}
        assert await event(client) == {"type": "got.bytes", "size": 1024}
    await until_metric(running, 1, "voice_agent_sessions_total", outcome="client")


async def test_an_encrypted_session_gets_all_messages_too(tmp_path):
    certificate = make_certificate(tmp_path / "tls", "localhost")
    context = ssl.create_default_context(cafile=certificate.cert)
    async with (
        gateway(tls_cert_file=certificate.cert, tls_key_file=certificate.key) as running,
        connect(f"wss://localhost:{running.port}/v1/realtime", ssl=context) as client,
    ):
        assert (await event(client))["type"] == "session.created"
        for size in range(100):
            await client.send(" " * size)
        answers = [await event(client) for _ in range(100)]
        assert answers == [{"type": "got.str", "size": size} for size in range(100)]


@pytest.mark.parametrize("kind", [bytes, str])
async def test_a_message_above_the_limit_gets_an_error_and_the_session_goes_on(kind):
    async with (
        gateway(limits={"max_message_bytes": 5_000_000}) as running,
        connect(running.ws_url, compression=None) as client,
    ):
        await event(client)
        await client.send(bytes(9_999_999) if kind is bytes else " " * 9_999_999)
        error = (await event(client))["error"]
        assert error["code"] == "message_too_large"
        assert "5000000" in error["message"]
        await client.send("still there?")
        assert await event(client) == {"type": "got.str", "size": 12}


async def test_a_message_beyond_the_ceiling_ends_only_its_session():
    async with gateway(limits={"max_message_bytes": 1_000_000}) as running:
        async with connect(running.ws_url, compression=None) as client:
            await event(client)
            with contextlib.suppress(ConnectionClosed):
                await client.send(bytes(10_000_000))
            await client.wait_closed()
            assert client.close_code == 1009
        async with connect(running.ws_url) as client:
            assert (await event(client))["type"] == "session.created"


async def test_a_driver_that_fails_ends_only_its_session(running, caplog):
    async with connect(running.ws_url) as other, connect(running.ws_url) as client:
        await event(client)
        await client.send("fail")
        await client.wait_closed()
        assert client.close_code == 1011
        await event(other)
        await other.send("unharmed")
        assert (await event(other))["type"] == "got.str"
    await until_metric(running, 1, "voice_agent_sessions_total", outcome="error")


async def test_a_driver_can_close(running):
    async with connect(running.ws_url) as client:
        await event(client)
        await client.send("leave")
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1008, "asked to")
    await until_metric(running, 1, "voice_agent_sessions_total", outcome="limit")


async def test_a_client_that_vanishes_is_lost(running):
    client = await connect(running.ws_url)
    await event(client)
    client.transport.abort()
    await until_metric(running, 1, "voice_agent_sessions_total", outcome="lost")
    await until_metric(running, 0, "voice_agent_sessions_open")


@pytest.mark.parametrize(
    ("stall_s", "outbox_bytes"), [(1.0, 100_000), (0.1, 1 << 40)], ids=["queue", "stall"]
)
async def test_a_client_that_stops_reading_is_cut_off(running, monkeypatch, stall_s, outbox_bytes):
    """By what waits for it, or by how long it has taken nothing: whichever comes first."""
    monkeypatch.setattr(wire, "WRITE_STALL_S", stall_s)
    monkeypatch.setattr(websocket, "MAX_OUTBOX_BYTES", outbox_bytes)
    reader, writer = await _raw_session(running)
    writer.write(_frame("flood"))
    await until_metric(running, 1, "voice_agent_sessions_total", outcome="slow_reader")
    await until_metric(running, 0, "voice_agent_sessions_open")
    assert not reader.at_eof()
    writer.close()


async def test_a_client_that_answers_no_ping_is_lost(monkeypatch):
    monkeypatch.setattr("agent.gateway.server.PING_INTERVAL_S", 0.05)
    monkeypatch.setattr("agent.gateway.server.PING_TIMEOUT_S", 0.05)
    async with gateway() as running:
        _, writer = await _raw_session(running)
        await until_metric(running, 1, "voice_agent_sessions_total", outcome="lost")
        writer.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x81\x05hello",  # no mask
        b"\xff\x80\x00\x00\x00\x00",  # unknown opcode
        b"\x81\x82\x00\x00\x00\x00\xff\xff",  # no UTF-8
        b"\x80\x80\x00\x00\x00\x00",  # continues nothing
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_websocket_ends_only_its_connection(running, nonsense):
    reader, writer = await _raw_session(running)
    writer.write(nonsense)
    async with asyncio.timeout(PATIENCE_S):
        await reader.read()
    writer.close()
    assert (await get(running, "/readyz")).status_code == 200
    await until_metric(running, 0, "voice_agent_sessions_open")


async def _raw_session(
    running: RunningGateway,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A session of a client that does only what the test does: it answers no pings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(
        b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def _frame(text: str) -> bytes:
    """One masked text frame."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()
