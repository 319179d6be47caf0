"""What a peer's data channel costs the server at most; calls are in tests/integration."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("aiortc")

from agent.gateway import webrtc
from agent.gateway.transport import CLOSE_TRY_AGAIN_LATER, TransportClosed
from agent.gateway.webrtc import WebRtcTransport
from agent.metrics import Metrics


class FullChannel:
    """A data channel whose peer takes nothing."""

    label = webrtc.EVENTS_CHANNEL
    readyState = "open"  # noqa: N815  # aiortc's name
    bufferedAmount = 0  # noqa: N815

    def on(self, event: str, handler: Any) -> None:
        del event, handler

    def send(self, text: str) -> None:
        self.bufferedAmount += len(text)


async def test_errors_that_a_peer_does_not_read_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each message that is refused is answered by one."""
    monkeypatch.setattr(webrtc, "MAX_OUTBOX_BYTES", 10_000)
    monkeypatch.setattr(webrtc, "CLOSE_FLUSH_S", 0.0)
    transport, channel = WebRtcTransport([], 100, Metrics()), FullChannel()
    transport._channel_opened(channel)  # type: ignore[arg-type]
    for _ in range(1_000):
        transport._message(b"sound")
    assert channel.bufferedAmount <= 10_000
    with pytest.raises(TransportClosed) as closed:
        await transport.send({"type": "late"})
    assert closed.value.code == CLOSE_TRY_AGAIN_LATER
    await transport.close(1000, "")
