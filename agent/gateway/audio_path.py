"""A peer's audio packets, taken from aiortc before it works on them.

aiortc's own way leads through two queues, a task for each connection and a jitter buffer that
keeps audio back for good after losses; it took half of the event loop's time with 50 peers. Here a
datagram is decrypted and read in the call in which it arrives. All else (ICE, DTLS, SCTP, RTCP)
goes aiortc's way.

There is no public way to do this. What is used of aiortc's inside is in this module alone, and
`tests/integration/test_webrtc.py` fails where it has become something else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pylibsrtp
from aiortc import RTCPeerConnection, RTCRtpReceiver
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket

from agent.audio.rtp import ReorderBuffer, RtpPacket, read_packet
from agent.gateway.transport import unread_bytes

LOOK_S = 0.02
"""How often to look whether a peer that hides has shown itself."""

MAX_DATAGRAM_BYTES = 2048
"""More than any network carries in one piece, and than libsrtp's buffer takes."""


def choose_microphone(peer: RTCPeerConnection) -> RTCRtpReceiver:
    """The receiver of an offer's microphone, once the offer is set; all else is declined."""
    found = None
    for transceiver in peer.getTransceivers():
        # What the offer proposes, seen from here.
        proposed = transceiver._offerDirection
        if transceiver.kind == "audio" and proposed in {"recvonly", "sendrecv"}:
            found = found or transceiver
        if transceiver is not found:
            transceiver.direction = "inactive"
    assert found is not None  # the offer was looked at before
    return found.receiver


class AudioPath:
    """The packets of one receiver; nothing of aiortc's receiver runs any more.

    Args:
        receiver: Of the connection's microphone, before our description is set.
        take: Called with each packet of the microphone.
        alive: Called whenever the peer has shown that it is there.
    """

    def __init__(
        self,
        receiver: RTCRtpReceiver,
        take: Callable[[RtpPacket], None],
        alive: Callable[[], object],
    ) -> None:
        private: Any = receiver
        private.receive = _receive_nothing
        self._receiver = private
        self._take = take
        self._alive = alive
        self._payload_types: frozenset[int] = frozenset()
        self._dtls: Any = None
        self._reporter = random.getrandbits(32)
        self._reported = 0, 0

    def begin(self, payload_types: frozenset[int]) -> None:
        """Take what arrives, now that our description is set.

        Args:
            payload_types: Those that the microphone's packets have.
        """
        self._payload_types = payload_types
        self._dtls = self._receiver.transport
        connection = self._dtls.transport._connection
        rest, checked = connection.data_received, connection.request_received

        def data_received(data: bytes, component: int) -> None:
            if _is_media(data):
                if not _is_rtcp(data):
                    self._audio_received(data)
                elif len(data) <= MAX_DATAGRAM_BYTES:
                    rest(data, component)
            elif data:  # aiortc would trip over an empty one
                rest(data, component)

        def request_received(*arguments: Any) -> None:
            self._alive()
            checked(*arguments)

        connection.data_received = data_received
        connection.request_received = request_received
        connection.connect = partial(_connect_to_somebody, connection)

    @property
    def has_unread(self) -> bool:
        """Whether datagrams lie in a socket of the connection."""
        sockets = (
            protocol.transport.get_extra_info("socket")
            for protocol in self._dtls.transport._connection._protocols
            if protocol.transport is not None
        )
        return any(one.fileno() >= 0 and unread_bytes(one.fileno()) for one in sockets if one)

    async def report(self, buffer: ReorderBuffer) -> None:
        """Tell the sender how much was lost: by that it chooses how much to send twice.

        Source: RFC 3550, section 6.4.2. Jitter and round trips are not measured.
        """
        given, lost = buffer.given, buffer.lost
        new_given, new_lost = given - self._reported[0], lost - self._reported[1]
        if buffer.source is None or new_given <= 0:
            return
        self._reported = given, lost
        info = RtcpReceiverInfo(
            ssrc=buffer.source,
            fraction_lost=min(255, (new_lost << 8) // (new_given + new_lost)),
            packets_lost=min(lost, 0x7FFFFF),
            highest_sequence=buffer.newest % (1 << 32),
            jitter=0,
            lsr=0,
            dlsr=0,
        )
        with suppress(ConnectionError):  # it is closing
            await self._dtls._send_rtp(bytes(RtcpRrPacket(self._reporter, [info])))

    def _audio_received(self, data: bytes) -> None:
        srtp = self._dtls._rx_srtp
        if srtp is None or len(data) > MAX_DATAGRAM_BYTES:
            return
        try:
            packet = read_packet(srtp.unprotect(data))
        except pylibsrtp.Error:
            return  # a stranger's, or a copy
        if packet is not None:
            self._alive()
            if packet.payload_type in self._payload_types:
                self._take(packet)


async def _connect_to_somebody(connection: Any) -> None:
    """aioice's `connect`, once there is somebody to connect to.

    It fails at once where the peer's addresses are hidden from us (see `offer.candidates_apart`);
    but the first check of a peer that reaches ours shows where it is.
    """
    while not (connection._remote_candidates or connection._early_checks or connection._closing):  # noqa: ASYNC110  # aioice has no event for it
        await asyncio.sleep(LOOK_S)
    await type(connection).connect(connection)


async def _receive_nothing(parameters: object) -> None:
    """In place of the receiver's own beginning: no thread, no jitter buffer, no reports."""
    del parameters


def _is_media(data: bytes) -> bool:
    """RTP or RTCP (RFC 7983, section 7)."""
    return len(data) > 1 and 127 < data[0] < 192


def _is_rtcp(data: bytes) -> bool:
    """RFC 5761, section 4."""
    return 192 <= data[1] <= 223
