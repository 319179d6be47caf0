"""What a client has sent and the driver has not worked on yet, in order.

Audio that piles up is taken in one piece; too much of anything makes the reader slow, so
that a client faster than real time is slowed down by its own connection. Slow, not still: a
client's pings come behind its audio, and one that is not read for long takes us for dead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from agent.errors import InvalidEvent
from agent.protocol.client_events import (
    CONVERSATION_EVENTS,
    ClientEvent,
    EventModels,
    InputAudioAppend,
    RefusedEvent,
    parse,
)

MAX_WAITING_ENTRIES = 256

SLOW_BYTES_PER_S = 320_000
"""How fast messages are read while too much waits.

Up to 4.4 MB lie unread in the sockets of a sender and of ours (Linux, loopback), and common
clients give up 20 s after a ping. This is five times real time in base64."""

_ENTRY_BYTES = 500  # what any entry costs beside its content

# One piece of work for the scorer; more is taken in several, fairly with other sessions.
MAX_PIECE_BYTES = 96_000


@dataclass(frozen=True, slots=True)
class AudioMessage:
    """Raw audio of one message.

    Attributes:
        data: In the session's input format.
        arrived_at: When it came, in seconds.
        event_id: Of the event it came in, if that has one.
        in_event: Whether it came in an event, not by itself.
    """

    data: bytes
    arrived_at: float
    event_id: str | None = None
    in_event: bool = False


@dataclass(frozen=True, slots=True)
class Stalled:
    """No audio has come for so long that an open turn is over."""


Entry = AudioMessage | ClientEvent | RefusedEvent | Stalled


class Inbox:
    """The queue between a session's reader and its worker.

    Args:
        max_audio_bytes: How much audio may wait before the reader becomes slow.
        max_waiting_bytes: How much of everything may wait before it stops.
        events: What the client may say.
    """

    def __init__(
        self,
        max_audio_bytes: int,
        max_waiting_bytes: int,
        events: EventModels = CONVERSATION_EVENTS,
    ) -> None:
        self._events = events
        self.max_audio_bytes = max_audio_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._entries: deque[tuple[Entry, int]] = deque()
        self._audio_bytes = 0
        self._waiting_bytes = 0
        self._last_bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def audio_waits_since(self) -> float | None:
        """When the oldest audio that is in here came, in seconds; None without any."""
        if not self._audio_bytes:
            return None
        waiting = (entry for entry, _ in self._entries if isinstance(entry, AudioMessage))
        return next(waiting).arrived_at

    def put(self, message: str | bytes, now: float) -> None:
        """Add one message of the client; text is parsed here."""
        entry = self._read(message, now)
        self._last_bytes = len(message)
        if isinstance(entry, AudioMessage):
            self._audio_bytes += len(entry.data)
            self._add(entry, len(entry.data))
        else:
            self._add(entry, len(message))

    def put_stalled(self) -> None:
        """Add that the audio has stopped coming."""
        self._add(Stalled(), 0)

    def _add(self, entry: Entry, size_bytes: int) -> None:
        size_bytes += _ENTRY_BYTES
        self._entries.append((entry, size_bytes))
        self._waiting_bytes += size_bytes
        self._filled.set()

    async def wait_for_room(self) -> None:
        """Return once there is room for more, or when one more is due to be read anyway."""
        loop = asyncio.get_running_loop()
        due_at = loop.time() + self._last_bytes / SLOW_BYTES_PER_S
        while self._is_full():
            self._drained.clear()
            try:
                async with asyncio.timeout_at(None if self._is_overfull else due_at):
                    await self._drained.wait()
            except TimeoutError:
                return

    async def wait_for_entry(self) -> None:
        """Return once there is something to work on."""
        while not self._entries:
            self._filled.clear()
            await self._filled.wait()

    def take(self) -> Entry | list[AudioMessage]:
        """The next event, or all the audio that waits before the next event."""
        entry = self._take_first()
        if not isinstance(entry, AudioMessage):
            return entry
        audio = [entry]
        size = len(entry.data)
        while self._entries and isinstance(entry := self._entries[0][0], AudioMessage):
            if size + len(entry.data) > MAX_PIECE_BYTES:
                break
            self._take_first()
            audio.append(entry)
            size += len(entry.data)
        self._audio_bytes -= size
        return audio

    def _take_first(self) -> Entry:
        entry, size_bytes = self._entries.popleft()
        self._waiting_bytes -= size_bytes
        self._drained.set()
        return entry

    def _is_full(self) -> bool:
        return (
            self._audio_bytes > self.max_audio_bytes
            or len(self._entries) > MAX_WAITING_ENTRIES
            or self._is_overfull
        )

    @property
    def _is_overfull(self) -> bool:
        return self._waiting_bytes > self._max_waiting_bytes

    def _read(self, message: str | bytes, now: float) -> Entry:
        if isinstance(message, bytes):
            return AudioMessage(message, now)
        try:
            event = parse(message, self._events)
        except RefusedEvent as error:
            return error
        if not isinstance(event, InputAudioAppend):
            return event
        try:
            return AudioMessage(event.decode(), now, event.event_id, in_event=True)
        except InvalidEvent as error:
            return RefusedEvent(error, event.event_id)
