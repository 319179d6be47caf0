"""Audio packets as a network delivers them, put back into order.

Hearing is not playing: nothing has to come out at an even pace, so a packet that is next in
line goes on at once and jitter costs no delay. Only behind a hole do packets wait, for as long
as the missing one may still come; then the hole is left for the decoder to conceal.

Source: RFC 3550 (RTP), sections 5.1 and A.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

RTP_CLOCK_HZ = 48_000
"""Of Opus, whatever its bandwidth (RFC 7587, section 4.1)."""

PATIENCE_S = 0.12
"""How long a missing packet is waited for: jitter of 50 ms either way, and one more packet."""

MAX_WAITING = 256
"""Packets behind one hole (5 s of speech): more than any network holds back by accident."""

_SEQUENCES, _TIMESTAMPS = 1 << 16, 1 << 32
_RESTART_PACKETS = 1_000
"""A step in the sequence that no loss explains: the sender has begun anew."""

_HEADER = struct.Struct(">IIH")
_RTP_HEADER = struct.Struct(">BBHII")


class AudioPacket(NamedTuple):
    """One packet of a stream.

    Attributes:
        sequence: Counts packets; goes on over 2**16, unlike RTP's.
        timestamp: Of its first sample at 48 kHz; goes on over 2**32.
        payload: Encoded audio.
    """

    sequence: int
    timestamp: int
    payload: bytes


class RtpPacket(NamedTuple):
    """A packet as it came.

    Attributes:
        payload_type: What codes it, by the offer and its answer.
        sequence: 16 bits.
        timestamp: 32 bits, at 48 kHz.
        source: SSRC.
        payload: Encoded audio; may be empty.
    """

    payload_type: int
    sequence: int
    timestamp: int
    source: int
    payload: bytes


def read_packet(data: bytes) -> RtpPacket | None:
    """Read one RTP packet, its SRTP taken off; None if it is none."""
    size = len(data)
    if size < _RTP_HEADER.size:
        return None
    first, second, sequence, timestamp, source = _RTP_HEADER.unpack_from(data)
    at = _RTP_HEADER.size + 4 * (first & 15)  # contributing sources are skipped
    if first & 16:  # and so are extensions
        if size < at + 4:
            return None
        at += 4 + 4 * (data[at + 2] << 8 | data[at + 3])
    if first & 32:  # padding says its own length at its end
        size -= data[-1]
    if first >> 6 != 2 or size < at:
        return None
    return RtpPacket(second & 127, sequence, timestamp, source, data[at:size])


class ReorderBuffer:
    """One stream's packets in order, each once.

    Pure: the time is handed in, in seconds on any clock that only goes forward.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._source: int | None = None
        self._next = 0
        self._last_timestamp = 0
        self._waiting: dict[int, tuple[AudioPacket, float]] = {}
        self.given = 0
        """Packets that came out."""
        self.lost = 0
        """Packets that never came, or too late."""

    @property
    def deadline_s(self) -> float | None:
        """When `take` gives what waits behind a hole; None when nothing waits."""
        since_s = self.waits_since_s
        return None if since_s is None else since_s + self._patience_s

    @property
    def waits_since_s(self) -> float | None:
        """When the oldest packet that waits behind a hole came; None when nothing waits."""
        return min((arrived_s for _, arrived_s in self._waiting.values()), default=None)

    @property
    def source(self) -> int | None:
        """SSRC of the stream; None before its first packet."""
        return self._source

    @property
    def newest(self) -> int:
        """Number of the last packet that came out or was given up."""
        return self._next - 1

    def push(
        self, source: int, sequence: int, timestamp: int, payload: bytes, now_s: float
    ) -> list[AudioPacket]:
        """Take a packet; give all that is in order now.

        Args:
            source: RTP's SSRC; another one begins a new stream.
            sequence: 16 bits.
            timestamp: 32 bits, at 48 kHz.
            payload: Encoded audio; may be empty.
            now_s: The time.
        """
        if sequence == self._next & 0xFFFF and source == self._source and not self._waiting:
            # Nearly all packets: next in line.
            packet = AudioPacket(self._next, self._unwrapped(timestamp), payload)
            self._next += 1
            self._last_timestamp = packet.timestamp
            self.given += 1
            return [packet]
        ready: list[AudioPacket] = []
        step = _signed(sequence - self._next, _SEQUENCES)
        if self._source is None or source != self._source or abs(step) > _RESTART_PACKETS:
            ready = self._begin(source, sequence, timestamp)
            step = 0
        if step < 0 or self._next + step in self._waiting:
            return ready  # a copy, or what is counted as lost already
        packet = AudioPacket(self._next + step, self._unwrapped(timestamp), payload)
        self._waiting[packet.sequence] = packet, now_s
        ready.extend(self._in_line())
        if len(self._waiting) > MAX_WAITING:
            ready.extend(self._skip_hole())
        return ready

    def take(self, now_s: float) -> list[AudioPacket]:
        """What has waited behind a hole for long enough."""
        ready: list[AudioPacket] = []
        while (deadline_s := self.deadline_s) is not None and now_s >= deadline_s:
            ready.extend(self._skip_hole())
        return ready

    def _begin(self, source: int, sequence: int, timestamp: int) -> list[AudioPacket]:
        """Another stream: give up the old one's holes and go on at its first packet.

        Numbers go on, so that they stay unique; their low bits are the sender's.
        """
        rest = [self._waiting.pop(number)[0] for number in sorted(self._waiting)]
        self.given += len(rest)
        self._source = source
        self._next += (sequence - self._next) % _SEQUENCES + _SEQUENCES
        self._last_timestamp += (timestamp - self._last_timestamp) % _TIMESTAMPS + _TIMESTAMPS
        return rest

    def _unwrapped(self, timestamp: int) -> int:
        return self._last_timestamp + _signed(timestamp - self._last_timestamp, _TIMESTAMPS)

    def _in_line(self) -> Iterator[AudioPacket]:
        while (waiting := self._waiting.pop(self._next, None)) is not None:
            packet = waiting[0]
            self._next += 1
            self._last_timestamp = packet.timestamp
            self.given += 1
            yield packet

    def _skip_hole(self) -> list[AudioPacket]:
        first = min(self._waiting)
        self.lost += first - self._next
        self._next = first
        return list(self._in_line())


def _signed(difference: int, modulus: int) -> int:
    """The shortest way round: within ±modulus / 2."""
    half = modulus // 2
    return (difference + half) % modulus - half


def packed_bytes(packet: AudioPacket) -> int:
    """What a packet takes in the result of `pack`."""
    return _HEADER.size + len(packet.payload)


def pack(packets: Iterable[AudioPacket]) -> bytes:
    """Packets as bytes that can be joined; `unpack` is the opposite."""
    return b"".join(
        _HEADER.pack(
            packet.sequence % _TIMESTAMPS, packet.timestamp % _TIMESTAMPS, len(packet.payload)
        )
        + packet.payload
        for packet in packets
    )


def unpack(data: bytes | memoryview) -> Iterator[AudioPacket]:
    """The packets in joined results of `pack`; numbers modulo 2**32."""
    at = 0
    while at < len(data):
        sequence, timestamp, size = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        yield AudioPacket(sequence, timestamp, bytes(data[at : at + size]))
        at += size
