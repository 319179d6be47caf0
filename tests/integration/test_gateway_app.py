"""The gateway on real sockets, with a trivial session behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from agent.engine.contract import EngineHealth
from agent.errors import ConfigError, EngineUnavailable
from agent.gateway import wire
from agent.gateway.server import bind, page_address
from agent.languages import LANGUAGES
from tests.helpers.gateway import RunningGateway, gateway

ROOT = Path(__file__).parents[2]
KEY = "sk-right"


@pytest.fixture
async def running() -> AsyncIterator[RunningGateway]:
    async with gateway() as started:
        yield started


@pytest.fixture
async def locked() -> AsyncIterator[RunningGateway]:
    """A gateway that wants a key."""
    async with gateway(api_key=SecretStr(KEY)) as started:
        yield started


async def get(running: RunningGateway, path: str, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.get(running.url + path, headers=headers)


async def event(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        parsed: dict[str, Any] = json.loads(await client.recv())
    return parsed


async def refused(url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Connect, be refused, and give the status and the error of the body."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, **options):
            pass
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, json.loads(response.body)["error"]


async def told(url: str, **options: Any) -> tuple[dict[str, Any], int, str]:
    """Connect as a browser does, be refused, and give the error, close code and reason."""
    options = {"subprotocols": [Subprotocol("realtime")]} | options
    async with connect(url, **options) as client:
        assert client.subprotocol == "realtime"
        message = await event(client)
        assert message["type"] == "error"
        await client.wait_closed()
        assert client.close_code is not None
        return message["error"], client.close_code, client.close_reason or ""


def metric(running: RunningGateway, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(running.metrics.render().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return 0.0


async def until_metric(running: RunningGateway, value: float, name: str, **labels: str) -> None:
    async with asyncio.timeout(10):
        while True:
            if metric(running, name, **labels) == value:
                return
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------- HTTP


async def test_probes_and_models(running):
    assert (await get(running, "/healthz")).json() == {"status": "alive"}
    assert (await get(running, "/readyz")).json() == {"status": "ready"}
    every_language = [language.code for language in LANGUAGES]
    assert (await get(running, "/v1/models", authorization="Bearer any")).json() == {
        "object": "list",
        "data": [
            {
                "id": "idle-1",
                "object": "model",
                "created": 0,
                "owned_by": "voice-agent",
                "note": "It does nothing.",
                "languages": every_language,
                "translation_targets": every_language,
            }
        ],
    }


async def test_metrics_are_in_prometheus_format(running):
    response = await get(running, "/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    assert "voice_agent_engine_ready 1.0" in response.text
    assert "voice_agent_event_loop_delay_seconds_bucket" in response.text


async def test_metrics_show_how_the_engine_is(running):
    running.engine.health = EngineHealth(ready=False, restarts=2, backlog_s=1.5)
    for _ in range(2):
        text = (await get(running, "/metrics")).text
        assert "voice_agent_engine_ready 0.0" in text
        assert "voice_agent_engine_restarts_total 2.0" in text
        assert "voice_agent_backlog_seconds 1.5" in text


async def test_people_are_told_where_the_page_is_and_what_the_engine_is_worth(running):
    assert "It does nothing." in running.said
    assert f"{running.url}/ " in running.said[-1]


@pytest.mark.parametrize("path", ["/nothing", "/../pyproject.toml", "/%2e%2e/pyproject.toml"])
async def test_unknown_paths_are_json_errors(running, path):
    response = await get(running, path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


async def test_wrong_methods_are_json_errors(running):
    async with httpx2.AsyncClient() as client:
        for path in ("/v1/models", "/"):
            response = await client.post(running.url + path)
            assert response.status_code == 405
            assert response.json()["error"]["code"] == "method_not_allowed"


async def test_the_page_is_served_with_strict_headers(running):
    response = await get(running, "/")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    again = await get(running, "/", **{"if-none-match": response.headers["etag"]})
    assert again.status_code == 200


# ---------------------------------------------------------------- source and key


@pytest.mark.parametrize("path", ["/", "/v1/models", "/metrics"])
async def test_other_host_names_are_refused(running, path):
    response = await get(running, path, host="rebound.example")
    assert response.status_code == 403
    assert response.json()["error"]["param"] == "Host"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_come_by_any_name(running, path):
    assert (await get(running, path, host="10.0.0.7:8080")).status_code == 200


async def test_posts_from_other_pages_are_refused(running):
    async with httpx2.AsyncClient() as client:
        response = await client.post(
            f"{running.url}/v1/models", headers={"origin": "http://evil.example"}
        )
    assert response.status_code == 403
    assert response.json()["error"]["param"] == "Origin"


@pytest.mark.parametrize(
    "options",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://evil.example", "subprotocols": [Subprotocol("realtime")]},
    ],
)
async def test_websockets_of_other_pages_are_refused_before_they_are_accepted(running, options):
    status, error = await refused(running.ws_url, **options)
    assert (status, error["param"]) == (403, "Origin")
    await until_metric(running, 1, "voice_agent_refused_total", reason="origin_not_allowed")


async def test_websockets_under_another_name_are_refused(running):
    url = f"ws://rebound.example:{running.port}/v1/realtime"
    status, error = await refused(url, host="127.0.0.1", port=running.port)
    assert (status, error["param"]) == (403, "Host")


async def test_the_own_page_and_allowed_pages_may_connect():
    async with gateway(allowed_origins=("https://kiosk.lan",)) as running:
        for origin in (running.url, "https://kiosk.lan"):
            async with connect(running.ws_url, origin=origin) as client:
                assert (await event(client))["type"] == "session.created"


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, "missing_api_key"), ({"Authorization": "Bearer sk-wrong"}, "invalid_api_key")],
)
async def test_without_the_key_a_websocket_is_refused(locked, headers, code):
    status, error = await refused(locked.ws_url, additional_headers=headers)
    assert (status, error["code"]) == (401, code)
    assert error["param"] == "Authorization"


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
async def test_without_the_key_http_is_refused(locked, path):
    response = await get(locked, path)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert (await get(locked, path, authorization=f"Bearer {KEY}")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
async def test_the_page_and_probes_need_no_key(locked, path):
    assert (await get(locked, path)).status_code == 200


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
        {
            "subprotocols": [
                Subprotocol("realtime"),
                Subprotocol(f"openai-insecure-api-key.{KEY}"),
            ]
        },
    ],
)
async def test_with_the_key_a_session_opens(locked, options):
    async with connect(locked.ws_url, **options) as client:
        assert (await event(client))["type"] == "session.created"
        assert client.subprotocol == ("realtime" if "subprotocols" in options else None)


async def test_a_browser_is_told_that_its_key_is_wrong(locked):
    error, code, reason = await told(
        locked.ws_url,
        origin=locked.url,
        subprotocols=[Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.sk-wrong")],
    )
    assert error["code"] == "invalid_api_key"
    assert (code, reason) == (3000, "Authorization: the API key is wrong")


# ---------------------------------------------------------------- admission


async def test_a_full_house_says_so_to_programs_and_to_browsers():
    async with gateway(limits={"max_sessions": 1}) as running:
        async with connect(running.ws_url) as first:
            await event(first)
            status, error = await refused(running.ws_url)
            assert (status, error["code"]) == (503, "session_limit_reached")
            error, code, _ = await told(running.ws_url)
            assert (error["code"], code) == ("session_limit_reached", 1013)
            assert (await get(running, "/readyz")).status_code == 503
        await until_metric(running, 0, "voice_agent_sessions_open")
        async with connect(running.ws_url) as second:
            assert (await event(second))["type"] == "session.created"


async def test_while_the_engine_loads_probes_answer_and_sessions_wait():
    async with gateway(loading=True) as running:
        assert (await get(running, "/healthz")).status_code == 200
        response = await get(running, "/readyz")
        assert response.status_code == 503
        assert response.json()["phase"] == "loading"
        status, error = await refused(running.ws_url)
        assert (status, error["code"]) == (503, "engine_unavailable")
        error, code, _ = await told(running.ws_url)
        assert (error["code"], code) == ("engine_unavailable", 1012)
        running.engine.may_start.set()
        await running.until_said("Open http")
        async with connect(running.ws_url) as client:
            assert (await event(client))["type"] == "session.created"


async def test_a_refusal_is_no_error_of_the_server(
    locked: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    status, _ = await refused(locked.ws_url)
    assert status == 401
    status, _ = await refused(locked.ws_url, origin="https://elsewhere.example")
    assert status == 403
    _, code, _ = await told(locked.ws_url)
    assert code == 3000
    signal.raise_signal(signal.SIGTERM)
    await locked.serving
    assert [record.getMessage() for record in caplog.records] == []


async def test_an_engine_that_has_failed_is_told_apart_from_one_that_loads():
    async with gateway() as running:
        running.engine.health = EngineHealth(ready=False, available=False)
        response = await get(running, "/readyz")
        assert response.status_code == 503
        assert response.json()["phase"] == "failed"
        assert "log" in response.json()["reason"]
        assert (await get(running, "/healthz")).status_code == 200
        status, error = await refused(running.ws_url)
        assert (status, error["code"]) == (503, "engine_failed")
        error, code, _ = await told(running.ws_url)
        assert (error["code"], code) == ("engine_failed", 1011)
        running.engine.health = EngineHealth()
        assert (await get(running, "/readyz")).json() == {"status": "ready"}


async def test_a_long_load_is_reported(monkeypatch):
    monkeypatch.setattr("agent.gateway.progress.PROGRESS_EVERY_S", 0.01)
    async with gateway(loading=True) as running:
        assert "50%" in await running.until_said("Reading weights")


async def test_an_engine_that_cannot_load_ends_the_server():
    async with gateway(loading=True) as running:
        running.engine.fails = True
        running.engine.may_start.set()
        with pytest.raises(EngineUnavailable, match="weights are missing"):
            await running.serving


async def test_a_signal_while_loading_ends_the_server():
    async with gateway(loading=True) as running:
        pass
    assert running.engine.stopped


async def test_session_types_that_are_not_served_are_named(running):
    intent = "nonsense"
    status, error = await refused(f"{running.ws_url}?intent={intent}")
    assert (status, error["param"], error["code"]) == (400, "intent", "session_type_not_served")
    assert intent in error["message"]
    _, code, _ = await told(f"{running.ws_url}?intent={intent}")
    assert code == 1008


async def test_translation_sessions_pass_the_same_gate(locked):
    url = f"{locked.ws_url}/translations"
    status, error = await refused(url)
    assert (status, error["code"]) == (401, "missing_api_key")
    status, error = await refused(url, origin="http://evil.example")
    assert (status, error["param"]) == (403, "Origin")
    async with connect(url, additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
        assert (await event(client))["type"] == "session.created"


async def test_other_websocket_addresses_do_not_exist(running):
    status, error = await refused(f"{running.ws_url}/nowhere")
    assert (status, error["code"]) == (404, "not_found")


# ---------------------------------------------------------------- sessions


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


async def test_a_client_that_stops_reading_is_cut_off(running, monkeypatch):
    monkeypatch.setattr(wire, "WRITE_STALL_S", 0.1)
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
    async with asyncio.timeout(10):
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


# ---------------------------------------------------------------- the end


async def test_a_shutdown_closes_sessions_with_going_away():
    async with gateway() as running:
        client = await connect(running.ws_url)
        await event(client)
    await client.wait_closed()
    assert (client.close_code, client.close_reason) == (1001, "the server is shutting down")
    assert running.engine.stopped
    assert metric(running, "voice_agent_sessions_total", outcome="shutdown") == 1


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


async def _until_ready(program: asyncio.subprocess.Process) -> str:
    """Read the program's output up to its address; give the realtime endpoint."""
    assert program.stdout is not None
    async with asyncio.timeout(30):
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
    async with asyncio.timeout(10):
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
        async with asyncio.timeout(10):
            await program.communicate()
    assert program.returncode == 0


async def refused_or_open(url: str) -> tuple[int, dict[str, Any]]:
    try:
        return await refused(url)
    except pytest.fail.Exception:
        return 101, {}


# ---------------------------------------------------------------- the address


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
