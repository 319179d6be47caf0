"""One realtime session with a server, over a WebSocket.

    async with connect("http://127.0.0.1:8080") as session:
        await session.send_audio(samples, rate_hz=16_000)
        async for event in session:
            ...

Sending and iterating are independent: any task may send while one task iterates, and a
client that does not iterate for a while only lets small text events pile up.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed

from agent.client.address import realtime_url, uses_loopback
from agent.client.refusals import explain_close, explain_error_event, opening_errors
from agent.client.upload import PCM16_24K, AudioEncoder, wire_format
from agent.errors import ConnectionFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.audio.pcm import AudioFormat

Event = dict[str, Any]
"""One server event as it came: `type`, and the fields that the protocol gives that type."""

DEFAULT_URL = "http://127.0.0.1:8080"

_CLOSE_TIMEOUT_S = 5.0
# One binary message; far below any server's limit (ours: 8 MiB), 1.4 s of 24 kHz PCM16.
_MAX_AUDIO_MESSAGE_BYTES = 64 * 1024


class ClientSession:
    """An open session; made by `connect`.

    Attributes:
        settings: The session's settings as the server last told them (`session.updated`).
        input_format: How binary audio is coded on the wire.
    """

    def __init__(self, socket: ClientConnection, input_format: AudioFormat) -> None:
        self.settings: Event = {}
        self.input_format = input_format
        self._socket = socket
        self._encoder = AudioEncoder(input_format)
        self._closing = False

    async def send(self, event: Mapping[str, object]) -> None:
        """Send one client event of the protocol as it is.

        Raises:
            ConnectionFailed: The connection has ended.
        """
        await self._send(json.dumps(event, ensure_ascii=False))

    async def send_audio(self, audio: bytes | NDArray[Any], *, rate_hz: int | None = None) -> None:
        """Send speech; waits while the server is too busy to read.

        Args:
            audio: Mono samples, float in [-1, 1] or int16; or bytes that are already in
                `input_format`.
            rate_hz: Sample rate of the samples; the rate of `input_format` when None.
                Any rate is converted, without a seam between calls of the same rate.

        Raises:
            ConnectionFailed: The connection has ended.
            ValueError: The samples are not mono, or not numbers.
        """
        data = audio if isinstance(audio, bytes) else self._encoder.encode(audio, rate_hz)
        for start in range(0, len(data), _MAX_AUDIO_MESSAGE_BYTES):
            await self._send(data[start : start + _MAX_AUDIO_MESSAGE_BYTES])

    async def send_text(self, text: str) -> None:
        """Add a typed message of the user; ask for the answer with `create_response`."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self.send({"type": "conversation.item.create", "item": item})

    async def create_response(self, **response: object) -> None:
        """Ask for an answer now; `response` are fields of the protocol's `response` object."""
        await self.send({"type": "response.create", "response": response})

    async def cancel_response(self, response_id: str | None = None) -> None:
        """Stop the answer that is being given."""
        event = {"type": "response.cancel"}
        await self.send(event | {"response_id": response_id} if response_id else event)

    async def truncate(self, item_id: str, text_end: int) -> None:
        """Say how much of an answer was voiced; the model remembers no more of it.

        Args:
            item_id: Of the answer, which must be complete or cancelled.
            text_end: Characters of its text, as Python counts them.
        """
        event = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0}
        await self.send(event | {"audio_end_ms": 0, "text_end": text_end})

    async def update_session(self, **session: object) -> None:
        """Change settings; the server's view arrives as `session.updated`."""
        kind = {"type": self.settings.get("type", "realtime")}
        await self.send({"type": "session.update", "session": {**kind, **session}})

    async def close(self) -> None:
        """End the session; iteration ends. Harmless when it has ended already."""
        self._closing = True
        await self._socket.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event. Cancelling loses none.

        Raises:
            ConnectionFailed: The server ended the session, or was lost.
            StopAsyncIteration: `close` was called, or the server closed normally.
        """
        try:
            message = await self._socket.recv()
        except ConnectionClosed as closed:
            if self._closing or (closed.rcvd is not None and closed.rcvd.code == 1000):
                raise StopAsyncIteration from closed
            raise explain_close(closed) from closed
        event = _parse(message)
        if event["type"] == "session.updated":
            self.settings = event["session"]
        return event

    async def open(self, session: Mapping[str, Any]) -> None:
        """Apply the first settings and wait until the server has taken them.

        Raises:
            ConnectionFailed: The server is not a realtime server, or went away.
            RemoteError: The server refused the settings; the message names the field.
        """
        await self._expect("session.created")
        await self.update_session(**session)
        await self._expect("session.updated")

    async def _expect(self, wanted: str) -> None:
        async for event in self:
            if event["type"] == wanted:
                return
            if event["type"] == "error":
                raise explain_error_event(event)
        raise ConnectionFailed(f"The server closed the connection before {wanted}.")

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as closed:
            raise explain_close(closed) from closed


@asynccontextmanager
async def connect(
    url: str = DEFAULT_URL,
    *,
    api_key: str | None = None,
    session: Mapping[str, Any] | None = None,
    input_format: AudioFormat | None = None,
    model: str | None = None,
    extensions: Collection[str] = (),
    open_timeout_s: float = 10.0,
) -> AsyncIterator[ClientSession]:
    """Open a session, a conversation with text answers by default; closes it when the block ends.

    Args:
        url: Address of the server: `http(s)://` or `ws(s)://`; the path may be left out.
        api_key: Sent as `Authorization: Bearer …`.
        session: Settings of the protocol's `session` object that differ from the server's;
            `{"type": "transcription"}` for captions and transcripts without answers.
        input_format: How audio is sent; PCM16 at 24 kHz when None.
        model: Name for `?model=`.
        extensions: Events of ours to ask for, e.g. `("timings",)`.
        open_timeout_s: Longest wait for the server to accept connection and settings.

    Raises:
        ConnectionFailed: No server there, or it does not answer.
        NotAuthorized: The key is missing or wrong.
        LimitExceeded: The server is full.
        EngineUnavailable: The server's model is not ready.
        RemoteError: The server refused the settings.
    """
    chosen = input_format or PCM16_24K
    address = realtime_url(url, model=model, extensions=extensions)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
    with opening_errors(address, open_timeout_s):
        async with asyncio.timeout(open_timeout_s):
            socket = await open_socket(
                address,
                additional_headers=headers,
                proxy=None if uses_loopback(address) else True,
                compression=None,  # speech does not compress, and it costs time for each piece
                max_size=None,  # a long answer in one event is no attack: we chose the server
                max_queue=None,  # a consumer that pauses must not stop pings from being answered
                open_timeout=None,
                close_timeout=_CLOSE_TIMEOUT_S,
            )
    client = ClientSession(socket, chosen)
    try:
        with opening_errors(address, open_timeout_s):
            async with asyncio.timeout(open_timeout_s):
                await client.open(first_settings(session or {}, chosen))
        yield client
    finally:
        await client.close()


def first_settings(session: Mapping[str, Any], input_format: AudioFormat) -> dict[str, Any]:
    """The first `session.update`: text output, the format, and what the caller wants."""
    output = {} if session.get("type") == "transcription" else {"output_modalities": ["text"]}
    audio = session.get("audio") or {}
    audio_input = (audio.get("input") or {}) | {"format": wire_format(input_format)}
    return {
        **output,
        **session,
        "audio": {**audio, "input": audio_input},
    }


def _parse(message: str | bytes) -> Event:
    """One server message as an event."""
    try:
        event = json.loads(message)
        if isinstance(event["type"], str):
            return dict(event)
    except (ValueError, KeyError, TypeError):
        pass
    raise ConnectionFailed(f"The server sent something that is no event: {message[:200]!r}.")
