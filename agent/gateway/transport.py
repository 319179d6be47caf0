"""What a session's driver needs of a connection, whatever carries it.

A transport moves whole messages and knows nothing of what they mean. One driver uses it:
one task receives, any task of the same event loop sends.
"""

from __future__ import annotations

import array
import fcntl
import json
import termios
from collections.abc import Callable, Mapping
from typing import Protocol

from agent.audio.intake import Intake
from agent.errors import VoiceAgentError

# Close codes of RFC 6455 (section 7.4.1) and of IANA's registry that this server uses.
CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_LOST = 1006  # never sent: there was no close frame
CLOSE_POLICY = 1008
CLOSE_INTERNAL_ERROR = 1011
CLOSE_RESTARTING = 1012
CLOSE_TRY_AGAIN_LATER = 1013
CLOSE_UNAUTHORIZED = 3000

CUT_OFF_EXTENSION = "voice_agent.cut_off"
"""In an ASGI scope's extensions once the peer was cut off, because it took nothing."""

UNREAD_EXTENSION = "voice_agent.unread"
"""Name in an ASGI scope's extensions: says whether the connection has something unread."""

MAX_CLOSE_REASON_BYTES = 123
"""A control frame holds 125 bytes, two of them the code (RFC 6455, section 5.5)."""


def to_text(event: Mapping[str, object]) -> str:
    """An event as it is sent.

    ASCII, because text of a client may hold half a surrogate pair, which is no UTF-8.
    """
    return json.dumps(event, separators=(",", ":"), allow_nan=False)


def size_bytes(text: str) -> int:
    """Size of a message's text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def unread_bytes(fileno: int) -> int:
    """How much has come in at a socket and was not read; of datagrams, the next one (man 7 udp)."""
    size = array.array("i", [0])
    fcntl.ioctl(fileno, termios.FIONREAD, size)
    return size[0]


class TransportClosed(VoiceAgentError):
    """The connection has ended: the peer left, was too slow, or we closed it.

    Attributes:
        code: WebSocket close code; 1006 when the peer vanished without one.
        reason: Text that came with it, or ours.
        by_peer: Whether the peer ended it, or was lost; else we closed it.
    """

    def __init__(self, code: int, reason: str = "", *, by_peer: bool = False) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.by_peer = by_peer

    def __str__(self) -> str:
        return f"closed with {self.code}" + (f" ({self.reason})" if self.reason else "")


class Transport(Protocol):
    """One connection to one client."""

    name: str
    """What carries it, for logs: `websocket`, `webrtc`."""

    intake: Intake | None
    """Reads the audio of this connection; None where it is coded as the session's settings say."""

    on_clear: Callable[[], None] | None
    """Called each time when all that was sent has been written."""

    @property
    def is_clear(self) -> bool:
        """Whether all that was sent has been written: it cannot be taken back any more.

        Written means handed to the operating system, or for a data channel to its protocol; while
        the peer is slow it is not.
        """

    @property
    def audio_waits_since(self) -> float | None:
        """When the oldest audio came that `receive` cannot give yet, in seconds on the monotonic
        clock, because something before it is missing; None without."""

    @property
    def has_unread(self) -> bool:
        """Whether something has come that `receive` has not given yet."""

    async def receive(self) -> str | bytes:
        """Wait for the next message: text is one JSON event, bytes are raw audio.

        A message above the size limit is not returned: the transport answers it with an
        `error` event and waits for the next one. Not reading slows the peer down.
        Cancelling loses no message.

        Raises:
            TransportClosed: The connection has ended; also for every later call.
        """

    async def send(self, event: Mapping[str, object]) -> None:
        """Send one JSON event after all those sent before it.

        Returns as soon as the event is queued, without waiting for the network; a peer
        that reads too slowly for the bounded queue is closed with 1013.

        Raises:
            TransportClosed: The connection has ended or is being closed.
        """

    async def close(self, code: int, reason: str) -> None:
        """Send what is queued, then close. Harmless when closed already.

        `reason` is cut to `MAX_CLOSE_REASON_BYTES` bytes of UTF-8.
        """
