"""The WebRTC transport: one peer's data channel and microphone, by aiortc.

aiortc does ICE, DTLS and SCTP. Its receive path for audio is passed by: after losses it holds
audio back for good and loses a part of it. Packets go from its router into a buffer that only
puts them in order (`audio/rtp.py`); decoding is done with all other audio in the hub's worker
thread (`audio/opus.py`), so nothing on the event loop grows with the sound.

A peer is judged by its last packet of any kind: browsers send connectivity checks every few
seconds, muted or not. aiortc itself would take half a minute to notice one that vanished.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)

from agent.audio.intake import Intake
from agent.audio.opus import OpusIntake
from agent.audio.rtp import ReorderBuffer, pack
from agent.errors import InvalidEvent, LimitExceeded
from agent.gateway.refusals import error_event
from agent.gateway.transport import (
    CLOSE_LOST,
    CLOSE_NORMAL,
    CLOSE_TRY_AGAIN_LATER,
    TransportClosed,
    size_bytes,
    to_text,
)

log = structlog.get_logger()

EVENTS_CHANNEL = "oai-events"
"""Label of the data channel that carries the protocol's events."""

CONNECT_S = 15.0
"""How long a peer may take from the answer to the open data channel."""

SILENT_S = 8.0
"""A peer of which nothing came for so long has vanished; browsers check every 2.5 s."""

LOOK_S = 0.5
"""How often to look whether it has, and whether packets have waited long enough."""

CLOSE_FLUSH_S = 1.0
MAX_OUTBOX_BYTES = 4 * 1024 * 1024
MAX_QUEUED_AUDIO = 1024
"""Packets that are not taken yet, some 20 s: a session that does not take them has a worse
problem, and what it cannot take is lost."""


class WebRtcTransport:
    """`Transport` over one peer connection.

    Attributes:
        name: `webrtc`.
        intake: Decodes its Opus packets.
        ended: How the connection ended, or None while it is open.
    """

    name = "webrtc"

    def __init__(self, ice_servers: Sequence[RTCIceServer], max_message_bytes: int) -> None:
        """A connection that waits for an offer."""
        self.intake: Intake | None = OpusIntake()
        self.ended: TransportClosed | None = None
        self._max_message_bytes = max_message_bytes
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=list(ice_servers)))
        self._channel: RTCDataChannel | None = None
        self._inbox: deque[str | bytes] = deque()
        self._audio: deque[bytes] = deque(maxlen=MAX_QUEUED_AUDIO)
        self._arrived = asyncio.Event()
        self._outbox: deque[str] = deque()
        self._outbox_bytes = 0
        self._reorder = ReorderBuffer()
        self._last_packet_s = time.monotonic()
        self._connect_by_s = self._last_packet_s + CONNECT_S
        self._watch: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._peer.on("datachannel", self._channel_opened)
        self._peer.on("connectionstatechange", self._state_changed)

    async def answer(self, offer: str) -> str:
        """Take the peer's offer; gives the answer, with all our candidates in it.

        Args:
            offer: SDP.

        Raises:
            InvalidEvent: It is no offer that can be answered; the connection is closed.
        """
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            self._check_media()
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except InvalidEvent:
            await self._peer.close()
            raise
        except Exception as error:  # aiortc raises whatever its parser trips over
            await self._peer.close()
            log.info("offer refused", error=type(error).__name__)
            raise InvalidEvent(
                f"the offer is not SDP that this server understands ({type(error).__name__}); send "
                "what createOffer() gives, with an audio track and a data channel",
                code="invalid_offer",
                param="sdp",
            ) from error
        self._watch = asyncio.create_task(self._look_after())
        return self._peer.localDescription.sdp

    async def receive(self) -> str | bytes:
        """Wait for the next message; see `Transport.receive`."""
        while True:
            if self._inbox:
                return self._inbox.popleft()
            if self._audio:
                packets = b"".join(self._audio)
                self._audio.clear()
                return packets
            self._raise_if_ended()
            self._arrived.clear()
            await self._arrived.wait()

    async def send(self, event: Mapping[str, object]) -> None:
        """Queue one event; see `Transport.send`."""
        self._raise_if_ended()
        text = to_text(event)
        waiting = self._outbox_bytes + (self._channel.bufferedAmount if self._channel else 0)
        if waiting + len(text) > MAX_OUTBOX_BYTES:
            self._start_closing(CLOSE_TRY_AGAIN_LATER, "the client reads too slowly")
            self._raise_if_ended()
        self._queue(text)

    async def close(self, code: int, reason: str) -> None:
        """Flush and close; see `Transport.close`. The peer sees its connection close."""
        if self.ended is None or self._closer is None:
            self._start_closing(code, reason)
        assert self._closer is not None
        await asyncio.shield(self._closer)

    def hang_up(self) -> None:
        """The client asked by HTTP to end the call."""
        self._end(CLOSE_NORMAL, "hung up", by_peer=True)

    # ------------------------------------------------------------ the peer

    def _check_media(self) -> None:
        """One microphone, and a data channel.

        Raises:
            InvalidEvent: One of them is missing.
        """
        receivers = [each.receiver for each in self._peer.getTransceivers() if each.kind == "audio"]
        if not receivers:
            raise InvalidEvent(
                "the offer has no audio; add a microphone track before createOffer()",
                code="invalid_offer",
                param="sdp",
            )
        if self._peer.sctp is None:
            raise InvalidEvent(
                f"the offer has no data channel; call createDataChannel({EVENTS_CHANNEL!r}) before "
                "createOffer()",
                code="invalid_offer",
                param="sdp",
            )
        for receiver in receivers:
            self._listen_to(receiver)

    def _listen_to(self, receiver: RTCRtpReceiver) -> None:
        """Take the receiver's packets before its own jitter buffer does.

        There is no public way. `tests/integration/test_webrtc.py` would notice if aiortc's
        router began to call something else.
        """

        async def take(packet: Any, arrival_time_ms: int) -> None:
            del arrival_time_ms
            now_s = self._note_packet()
            self._queue_audio(
                self._reorder.push(
                    packet.ssrc, packet.sequence_number, packet.timestamp, packet.payload, now_s
                )
            )

        private: Any = receiver
        private._handle_rtp_packet = take
        connection: Any = receiver.transport.transport._connection
        answer_check = connection.request_received

        def note_and_answer(*arguments: Any) -> None:
            self._note_packet()
            answer_check(*arguments)

        connection.request_received = note_and_answer

    def _queue_audio(self, packets: Sequence[Any]) -> None:
        if packets:
            self._audio.append(pack(packets))
            self._arrived.set()

    def _note_packet(self) -> float:
        self._last_packet_s = time.monotonic()
        return self._last_packet_s

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != EVENTS_CHANNEL or self._channel is not None:
            log.info("data channel ignored", label=channel.label[:50])
            return
        self._channel = channel
        channel.on("message", self._message)
        channel.on("close", self._state_changed)
        self._write_outbox()

    def _message(self, message: str | bytes) -> None:
        self._note_packet()
        if isinstance(message, bytes):
            self._tell(
                InvalidEvent(
                    "binary messages are not taken here: audio comes in the media track",
                    code="audio_in_media_track",
                )
            )
            return
        size = size_bytes(message)
        if size > self._max_message_bytes:
            self._tell(
                LimitExceeded(
                    f"a message of {size} bytes is above the limit of {self._max_message_bytes}",
                    code="message_too_large",
                )
            )
            return
        self._inbox.append(message)
        self._arrived.set()

    def _tell(self, error: InvalidEvent | LimitExceeded) -> None:
        self._queue(to_text(error_event(error)))

    def _state_changed(self) -> None:
        closed = self._channel is not None and self._channel.readyState == "closed"
        if closed or self._peer.connectionState == "closed":
            self._end(CLOSE_NORMAL, by_peer=True)
        elif self._peer.connectionState == "failed":
            self._end(CLOSE_LOST, by_peer=True)

    async def _look_after(self) -> None:
        """Give up holes in the audio, and peers that have vanished or never came."""
        while self.ended is None:
            now_s = time.monotonic()
            if self._channel is None and now_s > self._connect_by_s:
                self._end(CLOSE_LOST, "no connection was made in time", by_peer=True)
            elif self._channel is not None and now_s > self._last_packet_s + SILENT_S:
                self._end(CLOSE_LOST, by_peer=True)
            self._queue_audio(self._reorder.take(now_s))
            deadline_s = self._reorder.deadline_s
            wait_s = LOOK_S if deadline_s is None else deadline_s - now_s
            await asyncio.sleep(min(LOOK_S, max(0.01, wait_s)))

    # ------------------------------------------------------------ out, and the end

    def _queue(self, text: str) -> None:
        self._outbox.append(text)
        self._outbox_bytes += len(text)
        self._write_outbox()

    def _write_outbox(self) -> None:
        if self._channel is None or self._channel.readyState != "open":
            return
        while self._outbox:
            self._channel.send(self._outbox.popleft())
        self._outbox_bytes = 0

    def _start_closing(self, code: int, reason: str) -> None:
        self._end(code, reason, by_peer=False)
        if self._closer is None:
            self._closer = asyncio.create_task(self._flush_and_close())

    async def _flush_and_close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        channel, until_s = self._channel, time.monotonic() + CLOSE_FLUSH_S
        while channel is not None and channel.bufferedAmount and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # it is only a number
        await self._peer.close()

    def _end(self, code: int, reason: str = "", *, by_peer: bool) -> None:
        """Note how the connection ended; the first cause counts."""
        if self.ended is None:
            self.ended = TransportClosed(code, reason, by_peer=by_peer)
            self._arrived.set()

    def _raise_if_ended(self) -> None:
        if self.ended is not None:
            raise self.ended.with_traceback(None)
