"""Calls and the limits of the gateway, without a model."""

from __future__ import annotations

import asyncio

import httpx2
from aiortc import RTCConfiguration, RTCPeerConnection

from tests.helpers.gateway import gateway
from tests.helpers.peer import peer


async def offer() -> str:
    """What a client with a microphone offers; nobody will ever connect to it."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("audio", direction="sendonly")
    connection.createDataChannel("oai-events")
    await connection.setLocalDescription(await connection.createOffer())
    sdp: str = connection.localDescription.sdp
    await connection.close()
    return sdp


async def test_calls_at_once_are_no_more_than_there_are_places():
    sdp = await offer()
    async with gateway(limits={"max_sessions": 1, "shutdown_grace_s": 0.2}) as running:
        async with httpx2.AsyncClient() as http:
            answers = await asyncio.gather(
                *(
                    http.post(
                        f"{running.url}/v1/realtime/calls",
                        content=sdp,
                        headers={"Content-Type": "application/sdp"},
                    )
                    for _ in range(3)
                )
            )
        assert sorted(answer.status_code for answer in answers) == [201, 503, 503]


async def test_a_refused_offer_gives_its_place_back():
    async with gateway(limits={"max_sessions": 1, "shutdown_grace_s": 0.2}) as running:
        async with httpx2.AsyncClient() as http:
            for _ in range(2):
                answer = await http.post(
                    f"{running.url}/v1/realtime/calls",
                    content="nonsense",
                    headers={"Content-Type": "application/sdp"},
                )
                assert answer.status_code == 400
        async with peer(running.url) as client:
            assert client.events[0]["type"] == "session.created"
