"""Pages of allowed origins can use the API from their browser; others learn nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.helpers.gateway import RunningGateway, gateway

KEY = "the-real-key"
FRIEND = "https://kiosk.example"
STRANGER = "https://evil.example"
SERVER = {"urls": ["turn:turn.example.org"], "username": "u", "credential": "c"}

PATHS = [
    "/v1/models",
    "/v1/realtime/ice_servers",
    "/v1/realtime/calls",
    "/v1/realtime/calls/rtc_1/hangup",
    "/v1/realtime/client_secrets",
    "/v1/realtime/translations/calls",
    "/v1/realtime/translations/calls/rtc_1/hangup",
    "/v1/realtime/translations/client_secrets",
]


@pytest.fixture
async def running() -> AsyncIterator[RunningGateway]:
    async with gateway(api_key=KEY, allowed_origins=(FRIEND,), ice_servers=(SERVER,)) as one:
        yield one


async def send(running: RunningGateway, method: str, path: str, **headers: str) -> httpx2.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient() as http:
        return await http.request(method, running.url + path, headers=headers)


def cors(answer: httpx2.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


async def preflight(
    running: RunningGateway, path: str, origin: str, **more: str
) -> httpx2.Response:
    return await send(
        running,
        "OPTIONS",
        path,
        Origin=origin,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type,x-sdk",
        **more,
    )


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_of_an_allowed_origin_needs_no_key(running, path):
    answer = await preflight(running, path, FRIEND)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert "x-sdk" in answer.headers["access-control-allow-headers"].lower()
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


async def test_an_allowed_origin_may_find_this_server_on_a_private_network(running):
    asks = {"Access-Control-Request-Private-Network": "true"}
    answer = await preflight(running, "/v1/realtime/calls", FRIEND, **asks)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-private-network"] == "true"
    refused = await preflight(running, "/v1/realtime/calls", STRANGER, **asks)
    assert not cors(refused)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", [STRANGER, "null", "http://kiosk.example", FRIEND + ".evil"])
async def test_other_origins_learn_nothing(running, path, origin):
    for answer in (
        await preflight(running, path, origin),
        await send(running, "POST", path, Origin=origin, Authorization=f"Bearer {KEY}"),
    ):
        assert answer.status_code == 403
        assert not cors(answer)


async def test_reads_of_other_origins_carry_no_header_that_lets_their_page_look(running):
    answer = await send(
        running, "GET", "/v1/models", Origin=STRANGER, Authorization=f"Bearer {KEY}"
    )
    assert not cors(answer)


async def test_an_allowed_origin_reads_answers_and_refusals(running):
    good = await send(
        running, "GET", "/v1/realtime/ice_servers", Origin=FRIEND, Authorization=f"Bearer {KEY}"
    )
    assert good.json() == {"ice_servers": [SERVER]}
    assert good.headers["cache-control"] == "no-store"
    bad = await send(running, "POST", "/v1/realtime/calls", Origin=FRIEND)
    assert bad.status_code == 401
    for answer in (good, bad):
        assert answer.headers["access-control-allow-origin"] == FRIEND
        assert "Location" in answer.headers["access-control-expose-headers"]


async def test_an_allowed_origin_still_needs_the_key_and_the_right_host(running):
    answer = await send(running, "GET", "/v1/realtime/ice_servers", Origin=FRIEND)
    assert answer.status_code == 401
    assert "turn.example.org" not in answer.text
    rebound = await preflight(running, "/v1/realtime/calls", FRIEND, Host="evil.example")
    assert rebound.status_code == 403
    assert not cors(rebound)


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz"])
async def test_nothing_but_the_api_is_for_other_pages(running, path):
    answer = await send(running, "GET", path, Origin=FRIEND, Authorization=f"Bearer {KEY}")
    assert not cors(answer)


async def test_without_allowed_origins_there_is_none_of_it():
    async with gateway() as running:
        assert (await preflight(running, "/v1/models", FRIEND)).status_code == 403
        assert not cors(await send(running, "GET", "/v1/models", Origin=running.url))
