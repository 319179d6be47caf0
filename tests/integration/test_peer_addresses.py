"""Peers whose addresses the server cannot use: they reach it, and are known by that."""

from __future__ import annotations

import re

from tests.helpers.gateway import gateway
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
                assert (await client.event("session.created", within_s=10))["id"]
                assert (await client.event("got.bytes", within_s=10))["size"] > 0
                client.send({"type": "anything"})
                await client.event("got.str", within_s=10)
            finally:
                await client.connection.close()
