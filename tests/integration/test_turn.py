"""Calls through a real TURN server, from either end; skipped where coturn is not installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

import httpx2
import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy
from structlog.testing import capture_logs

from agent.gateway import webrtc
from tests.helpers.gateway import RunningGateway, gateway
from tests.helpers.peer import OpusMicrophone, peer
from tests.helpers.turn import TurnServer, turn_server

RELAY = RTCIceTransportPolicy.RELAY


@pytest.fixture(scope="module")
def turn() -> Iterator[TurnServer]:
    with turn_server() as server:
        yield server


@pytest.fixture(params=["udp", "tcp"])
async def running(
    turn: TurnServer, request: pytest.FixtureRequest
) -> AsyncIterator[RunningGateway]:
    async with gateway(ice_servers=(turn.setting(request.param),)) as running:
        yield running


async def servers_handed_out(running: RunningGateway) -> list[RTCIceServer]:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{running.url}/v1/realtime/ice_servers")
    return [RTCIceServer(**one) for one in answer.json()["ice_servers"]]


async def test_who_has_no_other_way_gets_through_with_what_is_handed_out(running: RunningGateway):
    only_relayed = RTCConfiguration(await servers_handed_out(running), RELAY)
    microphone = OpusMicrophone()
    async with peer(running.url, configuration=only_relayed, microphone=microphone) as client:
        assert client.way()[0] == "relay"
        await client.event("got.bytes")  # sound
        client.send({"type": "anything"})
        await client.event("got.str")


async def test_a_server_that_nobody_reaches_is_found_through_its_relay(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch
):
    hidden = partial(RTCConfiguration, iceTransportPolicy=RELAY)
    monkeypatch.setattr(webrtc, "RTCConfiguration", hidden)
    async with peer(running.url, microphone=OpusMicrophone()) as client:
        assert client.way()[1] == "relay"
        await client.event("got.bytes")
        client.send({"type": "anything"})
        await client.event("got.str")


async def test_a_turn_server_that_refuses_is_logged_and_breaks_no_call(turn: TurnServer):
    wrong = turn.setting() | {"secret": "another"}
    with capture_logs() as logs:
        async with gateway(ice_servers=(wrong,)) as running, peer(running.url) as client:
            assert client.way()[1] == "host"
    warnings = [one["event"] for one in logs if one["log_level"] == "warning"]
    assert any("TURN" in event for event in warnings)
