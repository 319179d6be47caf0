"""What a WebRTC peer has sent and its session has not taken yet, in order.

Packets of 20 ms are gathered to two, as much as WebSocket clients send at a time: waking a session
for each costs as much again as all else that is done with it. A message of the peer comes after
the audio that came before it.
"""

from __future__ import annotations

import asyncio
from collections import deque

from agent.gateway.transport import size_bytes

PACKETS_AT_A_TIME = 2

WAIT_S = 0.02
"""How long a packet waits for the next one."""

MAX_AUDIO_PIECES = 512
"""Pieces that wait, some 20 s: a session that does not take them has a worse problem, and what
it cannot take is lost."""


class Arrivals:
    """Filled by the connection, emptied by its session's reader; both in one event loop.

    Args:
        max_message_bytes: How much of the peer's messages may wait.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._entries: deque[str | bytes] = deque()
        self._message_bytes = 0
        self._audio_pieces = 0
        self._packets: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._filled = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._entries or self._packets)

    def put_audio(self, packed: bytes) -> None:
        """Add packets (see `audio.rtp.pack`)."""
        self._packets.append(packed)
        if len(self._packets) >= PACKETS_AT_A_TIME:
            self.gather()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self.gather)

    def put_message(self, message: str) -> bool:
        """Add a message; False if too much waits already, and it was not."""
        size = size_bytes(message)
        if self._message_bytes + size > self._max_message_bytes:
            return False
        self.gather()
        self._entries.append(message)
        self._message_bytes += size
        self._filled.set()
        return True

    def gather(self) -> None:
        """Let the packets that wait for another one be taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._packets and self._audio_pieces < MAX_AUDIO_PIECES:
            self._entries.append(b"".join(self._packets))
            self._audio_pieces += 1
            self._filled.set()
        self._packets.clear()

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._filled.set()

    def take(self) -> str | bytes | None:
        """The next message, or all the audio before it; None when there is nothing."""
        if not self._entries:
            return None
        first = self._entries.popleft()
        if isinstance(first, str):
            self._message_bytes -= size_bytes(first)
            return first
        pieces = [first]
        while self._entries and isinstance(self._entries[0], bytes):
            pieces.append(self._entries.popleft())  # type: ignore[arg-type]
        self._audio_pieces -= len(pieces)
        return b"".join(pieces)

    async def wait(self) -> None:
        """Return once there is something, or `wake` was called."""
        self._filled.clear()
        if not self._entries:
            await self._filled.wait()
