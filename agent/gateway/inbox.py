"""What a client has sent and the driver has not worked on yet, in order.

Audio that piles up is taken in one piece; too much of anything makes the reader wait, so
that a client faster than real time is slowed down by its own connection.
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

MAX_WAITING_EVENTS = 256

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
        max_audio_bytes: How much audio may wait before the reader does.
        events: What the client may say.
    """

    def __init__(self, max_audio_bytes: int, events: EventModels = CONVERSATION_EVENTS) -> None:
        self._events = events
        self.max_audio_bytes = max_audio_bytes
        self._entries: deque[Entry] = deque()
        self._audio_bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def put(self, message: str | bytes, now: float) -> None:
        """Add one message of the client; text is parsed here."""
        entry = self._read(message, now)
        if isinstance(entry, AudioMessage):
            self._audio_bytes += len(entry.data)
        self._add(entry)

    def put_stalled(self) -> None:
        """Add that the audio has stopped coming."""
        self._add(Stalled())

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._filled.set()

    async def wait_for_room(self) -> None:
        """Return once there is room for more."""
        while self._is_full():
            self._drained.clear()
            await self._drained.wait()

    async def wait_for_entry(self) -> None:
        """Return once there is something to work on."""
        while not self._entries:
            self._filled.clear()
            await self._filled.wait()

    def take(self) -> Entry | list[AudioMessage]:
        """The next event, or all the audio that waits before the next event."""
        if not isinstance(self._entries[0], AudioMessage):
            entry = self._entries.popleft()
            self._drained.set()
            return entry
        audio: list[AudioMessage] = []
        size = 0
        while self._entries and isinstance(self._entries[0], AudioMessage):
            first = self._entries[0]
            if audio and size + len(first.data) > MAX_PIECE_BYTES:
                break
            self._entries.popleft()
            audio.append(first)
            size += len(first.data)
        self._audio_bytes -= size
        self._drained.set()
        return audio

    def _is_full(self) -> bool:
        return self._audio_bytes > self.max_audio_bytes or len(self._entries) > MAX_WAITING_EVENTS

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
