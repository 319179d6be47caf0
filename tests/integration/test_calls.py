"""Calls and the limits of the gateway, without a model."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from tests.helpers.gateway import gateway
from tests.helpers.peer import peer


async def offer(*kinds: str, channel: bool = True) -> str:
    """What a client with a microphone, or other media, offers; nobody will ever connect to it."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds or ("audio",):
        connection.addTransceiver(kind, direction="sendonly")
    if channel:
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


@pytest.mark.parametrize(
    ("kinds", "channel", "complaint"),
    [
        (["video"], True, "no audio"),
        (["audio"], False, "no data channel"),
        (["audio", "audio"], True, "2 audio tracks"),
    ],
)
async def test_a_bad_offer_is_told_what_it_lacks(kinds, channel, complaint):
    sdp = await offer(*kinds, channel=channel)
    async with gateway() as running, httpx2.AsyncClient() as http:
        for path in ("realtime", "realtime/translations"):
            answer = await http.post(
                f"{running.url}/v1/{path}/calls",
                content=sdp,
                headers={"Content-Type": "application/sdp"},
            )
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (
                400,
                "invalid_offer",
                "sdp",
            )
            assert complaint in error["message"]


async def test_a_camera_beside_the_microphone_is_declined():
    async with gateway() as running, httpx2.AsyncClient() as http:
        answer = await http.post(
            f"{running.url}/v1/realtime/calls",
            content=await offer("audio", "video"),
            headers={"Content-Type": "application/sdp"},
        )
    assert answer.status_code == 201
    audio, video = answer.text.split("m=")[1:3]
    assert audio.startswith("audio")
    assert "a=recvonly" in audio
    assert "useinbandfec=1" in audio
    assert "PCMU" not in audio
    assert video.startswith("video")
    assert "a=inactive" in video


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
