"""Peers whose addresses the server cannot use: they reach it, and are known by that."""

from __future__ import annotations

import asyncio
import re

import httpx2
import pytest

from agent.gateway import webrtc
from tests.helpers.gateway import gateway
from tests.helpers.patience import PATIENCE_S
from tests.helpers.peer import OpusMicrophone, Peer


def as_firefox_hides_them(offer: str) -> str:
    """Names instead of addresses, and the word that there will be no others."""
    hidden = re.sub(
        r"(?m)^(a=candidate:\S+ 1 udp \d+) \S+ (\d+ typ host)", r"\1 no-such-name.local \2", offer
    )
    assert ".local" in hidden
    assert "a=end-of-candidates" in hidden
    return hidden


def without_any(offer: str) -> str:
    """What Firefox sends to a server on the same machine, before there is a microphone."""
    return re.sub(r"(?m)^a=candidate:.*\r\n", "", offer)


async def test_a_peer_that_hides_its_addresses_is_heard() -> None:
    async with gateway() as running:
        for change in (as_firefox_hides_them, without_any):
            client = Peer(OpusMicrophone())
            client.offer_as_sent = change
            try:
                await client.call(running.url)
                assert (await client.event("session.created"))["id"]
                assert (await client.event("got.bytes"))["size"] > 0
                client.send({"type": "anything"})
                await client.event("got.str")
            finally:
                await client.connection.close()


async def test_a_peer_that_never_comes_is_given_up_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webrtc, "CONNECT_S", 0.3)
    async with gateway() as running, httpx2.AsyncClient() as http:
        for given_up, change in enumerate((str, as_firefox_hides_them, without_any), 1):
            client = Peer()
            await client.connection.setLocalDescription(await client.connection.createOffer())
            offer = change(client.connection.localDescription.sdp)
            await client.connection.close()
            answer = await http.post(
                f"{running.url}/v1/realtime/calls",
                content=offer,
                headers={"Content-Type": "application/sdp"},
            )
            assert answer.status_code == 201
            lost = f'voice_agent_sessions_total{{outcome="lost"}} {given_up}.0'
            async with asyncio.timeout(PATIENCE_S):
                while lost not in running.metrics.render().decode():  # noqa: ASYNC110  # a number
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE_S):
            while any("connect" in repr(task.get_coro()) for task in asyncio.all_tasks()):  # noqa: ASYNC110  # aiortc's
                await asyncio.sleep(0.05)
