"""The WebSocket transport over an ASGI connection held by the test."""

import asyncio
import json

import pytest
from starlette.websockets import WebSocket

from agent.gateway import websocket as module
from agent.gateway.transport import TransportClosed
from agent.gateway.websocket import WebSocketTransport


class Asgi:
    """The server's side of one ASGI WebSocket."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.sent: list[dict[str, object]] = []
        self.readable = asyncio.Event()
        self.readable.set()
        self.gone = False

    def push(self, **message: object) -> None:
        self.incoming.put_nowait({"type": "websocket.receive"} | message)

    def leave(self, code: int, reason: str = "") -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def send(self, message: dict[str, object]) -> None:
        await self.readable.wait()
        if self.gone:
            raise OSError("gone")
        self.sent.append(message)

    def events(self) -> list[dict[str, object]]:
        return [json.loads(str(m["text"])) for m in self.sent if m["type"] == "websocket.send"]


@pytest.fixture
async def asgi():
    return Asgi()


@pytest.fixture
async def transport(asgi):
    scope = {"type": "websocket", "headers": [], "subprotocols": ["realtime"]}
    return await WebSocketTransport.accept(WebSocket(scope, asgi.incoming.get, asgi.send), 10)


async def test_the_offered_subprotocol_is_answered(asgi, transport):
    assert transport.name == "websocket"
    assert asgi.sent[0]["subprotocol"] == "realtime"


async def test_a_client_that_leaves_in_the_handshake(asgi):
    asgi.gone = True
    scope = {"type": "websocket", "headers": [], "subprotocols": []}
    with pytest.raises(TransportClosed) as caught:
        await WebSocketTransport.accept(WebSocket(scope, asgi.incoming.get, asgi.send), 10)
    assert caught.value.by_peer


async def test_messages_come_whole_and_in_order(asgi, transport):
    asgi.push(text="{}")
    asgi.push(bytes=b"\x00\x01")
    asgi.push(bytes=b"")
    assert [await transport.receive() for _ in range(3)] == ["{}", b"\x00\x01", b""]


@pytest.mark.parametrize("big", [{"bytes": bytes(11)}, {"text": "x" * 11}, {"text": "ü" * 6}])
async def test_a_message_above_the_limit_is_answered_and_passed_over(asgi, transport, big):
    asgi.push(**big)
    asgi.push(text="ü" * 5)
    assert await transport.receive() == "ü" * 5
    await transport.close(1000, "")
    (event,) = asgi.events()
    assert event["type"] == "error"
    assert event["error"]["code"] == "message_too_large"
    assert "limit of 10" in event["error"]["message"]


async def test_the_peers_close_is_told_every_time(asgi, transport):
    asgi.leave(1001, "tab closed")
    for _ in range(2):
        with pytest.raises(TransportClosed) as caught:
            await transport.receive()
        assert (caught.value.code, caught.value.reason) == (1001, "tab closed")
        assert caught.value.by_peer
    with pytest.raises(TransportClosed):
        await transport.send({"type": "late"})
    await transport.close(1000, "")
    assert [m["type"] for m in asgi.sent] == ["websocket.accept"]


async def test_events_keep_their_order_and_close_comes_last(asgi, transport):
    for number in range(100):
        await transport.send({"n": number})
    await transport.close(1000, "done")
    assert [event["n"] for event in asgi.events()] == list(range(100))
    assert asgi.sent[-1] == {"type": "websocket.close", "code": 1000, "reason": "done"}
    with pytest.raises(TransportClosed) as caught:
        await transport.send({"n": 100})
    assert not caught.value.by_peer
    with pytest.raises(TransportClosed):
        await transport.receive()


async def test_text_that_is_no_unicode_is_sent_all_the_same(asgi, transport):
    await transport.send({"instructions": "half \ud800"})
    await transport.close(1000, "")
    assert asgi.events() == [{"instructions": "half \ud800"}]
    str(asgi.sent[1]["text"]).encode()


async def test_what_is_no_json_is_our_bug(transport):
    with pytest.raises(ValueError, match="JSON compliant"):
        await transport.send({"threshold": float("nan")})


async def test_sending_does_not_wait_for_the_network(asgi, transport):
    asgi.readable.clear()
    await transport.send({"n": 1})
    await transport.send({"n": 2})
    assert asgi.events() == []
    asgi.readable.set()
    await transport.close(1000, "")
    assert [event["n"] for event in asgi.events()] == [1, 2]


async def test_it_says_when_all_is_written(asgi, transport):
    written = []
    transport.on_clear = lambda: written.append((transport.is_clear, len(asgi.events())))
    assert transport.is_clear
    asgi.readable.clear()
    await transport.send({"n": 1})
    await transport.send({"n": 2})
    await asyncio.sleep(0)
    assert not transport.is_clear
    asgi.readable.set()
    for _ in range(10):  # all that can happen happens
        await asyncio.sleep(0)
    assert written == [(True, 2)]
    assert not transport.has_unread  # this ASGI server does not say


async def test_a_slow_reader_is_closed_before_memory_grows(asgi, transport, monkeypatch):
    monkeypatch.setattr(module, "MAX_OUTBOX_BYTES", 100)
    monkeypatch.setattr(module, "CLOSE_FLUSH_S", 0.0)
    asgi.readable.clear()
    for _ in range(100 // len('{"n":1}')):
        await transport.send({"n": 1})
    with pytest.raises(TransportClosed) as caught:
        await transport.send({"n": 1})
    assert caught.value.code == 1013
    await transport.close(1000, "ignored: it is closing already")
    assert transport.ended is not None
    assert transport.ended.code == 1013


async def test_a_peer_that_is_gone_ends_the_transport(asgi, transport):
    asgi.gone = True
    await transport.send({"n": 1})
    asgi.leave(1006)
    with pytest.raises(TransportClosed) as caught:
        await transport.receive()
    assert caught.value.code == 1006
    assert caught.value.by_peer


async def test_a_peer_that_vanishes_while_we_close(asgi, transport):
    asgi.gone = True
    await transport.close(1000, "bye")
    assert transport.ended is not None
    assert transport.ended.code == 1000


async def test_two_closers_wait_for_the_same_close(asgi, transport):
    await asyncio.gather(transport.close(1000, "first"), transport.close(1001, "second"))
    closes = [m for m in asgi.sent if m["type"] == "websocket.close"]
    assert [m["code"] for m in closes] == [1000]


async def test_a_cancelled_receive_loses_nothing(asgi, transport):
    waiting = asyncio.create_task(transport.receive())
    await asyncio.sleep(0)
    asgi.push(text="kept")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await transport.receive() == "kept"
