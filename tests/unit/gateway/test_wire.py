"""The WebSocket protocol below ASGI: what arrives in any pieces is what was sent."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from agent.gateway import wire
from agent.gateway.wire import WebSocketWire, whole_binary_message


class RecordingTransport:
    """A transport without a network."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.was_written = asyncio.Event()
        self.reading = True
        self.closed = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.was_written.set()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 1


class Pair:
    """A client without I/O and the protocol, past their handshake."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ping_interval_s: float | None) -> None:
        self.client = ClientProtocol(parse_uri("ws://localhost/"))
        self.transport = RecordingTransport()
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            ws=WebSocketWire,
            ws_max_size=200_000,
            ws_per_message_deflate=False,
            ws_ping_interval=ping_interval_s,
            ws_ping_timeout=1000.0,
        )
        config.load()
        self.protocol = WebSocketWire(config, ServerState(), {}, loop)
        self.protocol.connection_made(self.transport)  # type: ignore[arg-type]
        self.client.send_request(self.client.connect())
        self.protocol.data_received(b"".join(self.client.data_to_send()))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def open(self) -> None:
        """Complete the handshake."""
        await self.transport.was_written.wait()
        self.client.receive_data(b"".join(self.transport.written))
        self.client.events_received()

    def close(self) -> None:
        """Free what runs."""
        self.protocol.stop_keepalive()
        for task in self.protocol.tasks:
            task.cancel()

    def received(self) -> list[bytes | str]:
        """Messages for the app so far."""
        messages = []
        while not self.protocol.queue.empty():
            message: Any = self.protocol.queue.get_nowait()
            if message["type"] == "websocket.receive":
                messages.append(message["text"] if "text" in message else message["bytes"])
        return messages


def sent(client: ClientProtocol) -> bytes:
    return b"".join(client.data_to_send())


def run(check: Any, ping_interval_s: float | None = None) -> None:
    """Run `check(pair)` with an open pair; its own pings come never or when told."""

    async def main() -> None:
        pair = Pair(asyncio.get_running_loop(), ping_interval_s)
        try:
            await pair.open()
            check(pair)
        finally:
            pair.close()

    asyncio.run(main())


MESSAGE = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([125, 126, 127, 1920, 65_535, 65_536]).map(bytes),
    st.text(max_size=20),
    st.lists(st.binary(max_size=20), min_size=2, max_size=3).map(tuple),  # in fragments
    st.just("PING"),
    # Payloads that look like the beginning of a frame.
    st.sampled_from([b"\x82\xfe\x00\x02", b"\x82\x81", b"\x82\xfe"]),
)


def send(client: ClientProtocol, message: Any) -> list[bytes | str]:
    """Have the client send it; gives what should arrive."""
    if message == "PING":
        client.send_ping(b"are you there?")
        return []
    if isinstance(message, str):
        client.send_text(message.encode())
    elif isinstance(message, tuple):
        client.send_binary(message[0], fin=False)
        for part in message[1:-1]:
            client.send_continuation(part, fin=False)
        client.send_continuation(message[-1], fin=True)
        return [b"".join(message)]
    else:
        client.send_binary(message)
    return [message]


@given(
    messages=st.lists(MESSAGE, max_size=6),
    cuts=st.lists(st.integers(0, 50) | st.integers(0, 2000), max_size=8),
    mask=st.sampled_from([bytes(4), b"\x01\x02\x03\x04"]),
)
@example(messages=[bytes(1920), bytes(1920)], cuts=[1928], mask=b"\x01\x02\x03\x04")
# The payload comes alone and looks like a whole message itself.
@example(messages=[b"\x82\x80\0\0\0\0"], cuts=[6], mask=bytes(4))
def test_any_messages_in_any_pieces(messages, cuts, mask):
    def check(pair: Pair) -> None:
        expected: list[bytes | str] = []
        data = b""
        with patch("websockets.frames.secrets.token_bytes", return_value=mask):
            for message in messages:
                expected += send(pair.client, message)
                data += sent(pair.client)
        borders = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for start, end in pairwise(borders):
            pair.protocol.data_received(data[start:end])
        assert pair.received() == expected
        assert not pair.transport.closed

    run(check)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1920, 65_535])
def test_a_binary_message_that_came_whole_needs_no_parser(monkeypatch, size):
    def check(pair: Pair) -> None:
        monkeypatch.setattr(
            WebSocketsSansIOProtocol, "data_received", lambda *_: pytest.fail("was parsed")
        )
        for value in (1, 2):
            pair.client.send_binary(bytes([value]) * size)
            pair.protocol.data_received(sent(pair.client))
        assert pair.received() == [b"\x01" * size, b"\x02" * size]

    run(check)


def test_what_only_looks_like_a_message_goes_to_the_parser():
    assert whole_binary_message(b"\x82\x83mask123") == 6
    for data in (
        b"",
        b"\x82",
        b"\x82\x83mask12",  # cut off
        b"\x82\x83mask1234",  # more follows
        b"\x82\x03mask123",  # not masked
        b"\x81\x83mask123",  # text
        b"\x02\x83mask123",  # a fragment
        b"\xc2\x83mask123",  # a reserved bit
        b"\x89\x83mask123",  # a ping
        b"\x82\xff" + bytes(12),  # eight bytes of length
        b"\x82\xfe\x00\x03mask12",
    ):
        assert whole_binary_message(data) == 0


def test_after_the_close_frame_nothing_is_taken_in():
    def check(pair: Pair) -> None:
        pair.client.send_binary(b"before")
        before = sent(pair.client)
        pair.client.send_close(1000)
        pair.protocol.data_received(before)
        pair.protocol.data_received(sent(pair.client))
        pair.protocol.data_received(before)
        assert pair.received() == [b"before"]

    run(check)


def test_a_binary_message_amid_a_fragmented_one_is_an_error():
    def check(pair: Pair) -> None:
        pair.client.send_binary(b"whole")
        whole = sent(pair.client)
        pair.client.send_binary(b"begun", fin=False)
        pair.protocol.data_received(sent(pair.client))
        pair.protocol.data_received(whole)
        assert pair.received() == []
        assert pair.transport.closed

    run(check)


def test_the_socket_is_not_read_while_many_messages_wait():
    def check(pair: Pair) -> None:
        for count in range(1, wire.MAX_QUEUED_MESSAGES + 1):
            assert pair.transport.reading
            pair.client.send_binary(bytes(count))
            pair.protocol.data_received(sent(pair.client))
        assert not pair.transport.reading

    run(check)


def asked(pair: Pair) -> bool:
    """Whether the server has just sent a ping."""
    pair.client.receive_data(b"".join(pair.transport.written))
    pair.transport.written.clear()
    return any(event.opcode is Opcode.PING for event in pair.client.events_received())


def test_a_peer_that_answers_no_ping_is_gone():
    def check(pair: Pair) -> None:
        pair.transport.written.clear()
        pair.protocol.send_keepalive_ping()
        assert asked(pair)
        pair.protocol.keepalive_timeout()
        assert pair.transport.aborted

    run(check, ping_interval_s=1000.0)


@pytest.mark.parametrize("when", ["paused before the ping", "read after the ping"])
def test_a_peer_whose_answer_may_lie_behind_its_audio_is_asked_again(when):
    def check(pair: Pair) -> None:
        pair.transport.written.clear()
        flood = b""
        for _ in range(2 * wire.MAX_QUEUED_MESSAGES):
            pair.client.send_text(b"audio")
            flood += sent(pair.client)
        if when == "paused before the ping":
            pair.protocol.data_received(flood)
            assert not pair.transport.reading
            pair.protocol.send_keepalive_ping()
        else:
            pair.protocol.send_keepalive_ping()
            pair.protocol.data_received(flood)
        pair.protocol.keepalive_timeout()
        assert not pair.transport.aborted
        assert pair.protocol.ping_timer is not None
        # Asked again, and caught up with: now silence means that it is gone.
        pair.protocol.read_paused = False
        pair.protocol.send_keepalive_ping()
        pair.protocol.keepalive_timeout()
        assert pair.transport.aborted

    run(check, ping_interval_s=1000.0)
