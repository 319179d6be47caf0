"""The WebRTC transport: one peer's data channel and microphone, by aiortc.

aiortc does ICE, DTLS and SCTP. Its receive path for audio is passed by (`audio_path.py`): after
losses it holds audio back for good and loses a part of it. Packets go into a buffer that only
puts them in order (`audio/rtp.py`); decoding is done with all other audio in the hub's worker
thread (`audio/opus.py`), so nothing on the event loop grows with the sound.

A peer is judged by its last packet of any kind: browsers send connectivity checks every few
seconds, muted or not. aiortc itself would take half a minute to notice one that vanished.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import structlog
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceCandidate,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.rtcrtpparameters import RTCRtpCodecCapability

from agent.audio.intake import Intake
from agent.audio.opus import OpusIntake
from agent.audio.rtp import AudioPacket, ReorderBuffer, RtpPacket, pack
from agent.errors import InvalidEvent, LimitExceeded
from agent.gateway.arrivals import Arrivals
from agent.gateway.audio_path import AudioPath, choose_microphone
from agent.gateway.offer import (
    EVENTS_CHANNEL,
    candidates_apart,
    check_offer,
    invalid_offer,
    payload_types,
    with_opus_parameters,
)
from agent.gateway.refusals import error_event
from agent.gateway.transport import (
    CLOSE_LOST,
    CLOSE_NORMAL,
    CLOSE_POLICY,
    CLOSE_TRY_AGAIN_LATER,
    TransportClosed,
    size_bytes,
    to_text,
)
from agent.metrics import Metrics

log = structlog.get_logger()

CONNECT_S = 15.0
"""How long a peer may take from the answer to the open data channel."""

SILENT_S = 8.0
"""A peer of which nothing came for so long has vanished; browsers check every 2.5 s."""

LOOK_S = 0.5
"""How often to look whether it has, and whether packets have waited long enough."""

REPORT_S = 1.0
"""How often the sender is told what was lost."""

CLOSE_FLUSH_S = 1.0
MAX_OUTBOX_BYTES = 4 * 1024 * 1024
OPUS = RTCRtpCodecCapability(mimeType="audio/opus", clockRate=48_000, channels=2)

MESSAGES_WAITING = 4
"""So many of the largest messages may wait. Unlike a socket a data channel cannot be left unread
until there is room."""


class WebRtcTransport:
    """`Transport` over one peer connection.

    Attributes:
        name: `webrtc`.
        intake: Decodes its Opus packets.
        ended: How the connection ended, or None while it is open.
    """

    name = "webrtc"

    def __init__(
        self, ice_servers: Sequence[RTCIceServer], max_message_bytes: int, metrics: Metrics
    ) -> None:
        """A connection that waits for an offer."""
        self._decoding = OpusIntake()
        self.intake: Intake | None = self._decoding
        self._metrics = metrics
        self._counted = 0, 0, 0
        self.ended: TransportClosed | None = None
        self.on_clear: Callable[[], None] | None = None
        self._max_message_bytes = max_message_bytes
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=list(ice_servers)))
        self._has_turn = any(url.startswith("turn") for one in ice_servers for url in one.urls)
        self._channel: RTCDataChannel | None = None
        self._arrivals = Arrivals(MESSAGES_WAITING * max_message_bytes)
        self._outbox: deque[str] = deque()
        self._outbox_bytes = 0
        self._reorder = ReorderBuffer()
        self._path: AudioPath | None = None
        self._last_packet_s = time.monotonic()
        self._connect_by_s = self._last_packet_s + CONNECT_S
        self._watch: asyncio.Task[None] | None = None
        self._names: asyncio.Task[None] | None = None
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
            check_offer(offer)
            # Of all that aiortc speaks: other codecs of the offer would come undecoded.
            self._peer.addTransceiver("audio", direction="recvonly").setCodecPreferences([OPUS])
            offer, hidden = candidates_apart(offer)
            await self._peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            path = AudioPath(choose_microphone(self._peer), self._take_packet, self._note_packet)
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except InvalidEvent:
            await self._peer.close()
            raise
        except Exception as error:  # aiortc raises whatever it trips over
            await self._peer.close()
            log.info("offer refused", error=type(error).__name__)
            reason = f"{type(error).__name__}: {error}"[:200]
            raise invalid_offer(f"the offer cannot be answered ({reason})") from error
        answer = self._peer.localDescription.sdp
        path.begin(payload_types(answer))
        self._path = path
        self._names = asyncio.create_task(self._add_candidates(hidden))
        if self._has_turn and " typ relay" not in answer:
            log.warning("the TURN server gave no address: it is down, or refuses its credentials")
        self._watch = asyncio.create_task(self._look_after())
        return with_opus_parameters(answer)

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits to be written; see `Transport.is_clear`."""
        return not self._outbox and (self._channel is None or not self._channel.bufferedAmount)

    @property
    def audio_waits_since(self) -> float | None:
        """When the oldest packet came that waits for one before it."""
        return self._reorder.waits_since_s

    @property
    def has_unread(self) -> bool:
        """Whether something has come that was not received; see `Transport.has_unread`."""
        return bool(self._arrivals) or (self._path is not None and self._path.has_unread)

    async def receive(self) -> str | bytes:
        """Wait for the next message; see `Transport.receive`."""
        while True:
            arrived = self._arrivals.take()
            if arrived is not None:
                return arrived
            self._raise_if_ended()
            await self._arrivals.wait()

    async def send(self, event: Mapping[str, object]) -> None:
        """Queue one event; see `Transport.send`."""
        self._raise_if_ended()
        self._queue(to_text(event))
        self._raise_if_ended()

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

    def _take_packet(self, packet: RtpPacket) -> None:
        self._queue_audio(
            self._reorder.push(
                packet.source,
                packet.sequence,
                packet.timestamp,
                packet.payload,
                self._last_packet_s,
            )
        )

    def _queue_audio(self, packets: Sequence[AudioPacket]) -> None:
        if packets:
            self._arrivals.put_audio(pack(packets))

    def _note_packet(self) -> None:
        self._last_packet_s = time.monotonic()

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != EVENTS_CHANNEL or self._channel is not None:
            log.info("data channel ignored", label=channel.label[:50])
            return
        self._channel = channel
        channel.on("message", self._message)
        channel.on("close", self._state_changed)
        channel.on("bufferedamountlow", self._drained)  # its threshold is 0 bytes
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
        if not self._arrivals.put_message(message):
            self._start_closing(CLOSE_POLICY, "the client sends more than is taken")

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
        report_at_s = 0.0
        while self.ended is None:
            now_s = time.monotonic()
            if self._channel is None and now_s > self._connect_by_s:
                self._end(CLOSE_LOST, "no connection was made in time", by_peer=True)
            elif self._channel is not None and now_s > self._last_packet_s + SILENT_S:
                self._end(CLOSE_LOST, by_peer=True)
            self._queue_audio(self._reorder.take(now_s))
            if self._path is not None and now_s >= report_at_s:
                report_at_s = now_s + REPORT_S
                self._count_packets()
                await self._path.report(self._reorder)
            deadline_s = self._reorder.deadline_s
            wait_s = LOOK_S if deadline_s is None else deadline_s - now_s
            await asyncio.sleep(min(LOOK_S, max(0.01, wait_s)))

    async def _add_candidates(self, hidden: Sequence[RTCIceCandidate]) -> None:
        """Look for the peer by its names too; it mostly finds us first."""
        adding = (self._peer.addIceCandidate(candidate) for candidate in hidden)
        for error in await asyncio.gather(*adding, return_exceptions=True):
            if error is not None:
                log.info("candidate ignored", error=type(error).__name__)

    def _count_packets(self) -> None:
        """Add what came, was lost or could not be decoded since the last time."""
        counts = self._reorder.given, self._reorder.lost, self._decoding.failures
        for outcome, count, before in zip(
            ("received", "lost", "failed"), counts, self._counted, strict=True
        ):
            self._metrics.audio_packets.labels(outcome).inc(count - before)
        self._counted = counts

    # ------------------------------------------------------------ out, and the end

    def _queue(self, text: str) -> None:
        """Queue an event, the answers to what is refused included: nobody may have to keep more."""
        waiting = self._outbox_bytes + (self._channel.bufferedAmount if self._channel else 0)
        if waiting + len(text) > MAX_OUTBOX_BYTES:
            self._start_closing(CLOSE_TRY_AGAIN_LATER, "the client reads too slowly")
            return
        self._outbox.append(text)
        self._outbox_bytes += len(text)
        self._write_outbox()

    def _write_outbox(self) -> None:
        if self._channel is None or self._channel.readyState != "open":
            return
        while self._outbox:
            self._channel.send(self._outbox.popleft())
        self._outbox_bytes = 0

    def _drained(self) -> None:
        if self.on_clear is not None and self.is_clear:
            self.on_clear()

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
            self._count_packets()
            self._arrivals.gather()
            self._arrivals.wake()

    def _raise_if_ended(self) -> None:
        if self.ended is not None:
            raise self.ended.with_traceback(None)
