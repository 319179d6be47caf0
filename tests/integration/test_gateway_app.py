"""The gateway on real sockets, with a trivial session behind it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from agent.engine.contract import EngineHealth
from agent.errors import EngineUnavailable
from agent.languages import LANGUAGES
from tests.helpers.gateway import RunningGateway, event, gateway, get, refused, until_metric

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
