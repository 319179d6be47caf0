"""Async Python client for robots, kiosks and scripts; see docs/client.md.

It needs only the core install and none of the server's modules.
"""

from agent.client.session import DEFAULT_URL, ClientSession, Event, connect
from agent.client.turns import Turn, TurnTracker
from agent.client.upload import PCM16_24K

__all__ = [
    "DEFAULT_URL",
    "PCM16_24K",
    "ClientSession",
    "Event",
    "Turn",
    "TurnTracker",
    "connect",
]
