"""One session's audio as Opus packets: packets in, whole 16 kHz frames out.

Gaps are filled so that the session's clock goes on as the sender's does. What was lost in the
network is taken from the copy in the packet after it, if the sender puts one there (in-band FEC,
which our answer asks for), and made up where there is none; what the sender left out (it is
muted, or sends nothing in silence) is silence.

Source: RFC 7587 (RTP payload format for Opus); decoding by libopus (`audio/libopus.py`).
"""

from __future__ import annotations

import numpy as np

from agent.audio.framing import Framer
from agent.audio.libopus import OpusDecoder
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from agent.audio.rtp import RTP_CLOCK_HZ, packed_bytes, unpack
from agent.errors import InvalidEvent

CONCEALED_S = 0.02
"""What is made up at the beginning of a loss, before silence and the copy at its end. It hides the
edge; of more a recogniser hears words that nobody said (docs/LOG.md)."""

MOST_FILLED_S = 2.0
"""Longest gap that is filled at all. After a longer one a turn was ended by the clock, and
what comes is a new beginning."""

TYPICAL_BYTES_PER_SECOND = 6_000
"""Of a browser's speech (32 to 40 kbit/s) with our framing; to judge how much waits."""

_CONCEALED_SAMPLES = int(CONCEALED_S * SAMPLE_RATE_HZ)
_TICKS = RTP_CLOCK_HZ // SAMPLE_RATE_HZ  # of RTP's clock in one of our samples
_TIMESTAMPS = 1 << 32
_NOTHING: Samples = np.zeros(0, np.float32)


class OpusIntake:
    """Decodes, fills and frames what one peer sends; see `audio.rtp.pack`.

    Not for use from several threads at once. The same interface as `AudioIntake`.

    Raises:
        LibraryMissing: There is no libopus (it comes with the extra `webrtc`).
    """

    def __init__(self) -> None:
        self._decoder = OpusDecoder()
        self._framer = Framer()
        self._due: int | None = None  # timestamp of the next sample, at 48 kHz
        self._next_sequence = 0

    @property
    def position_sample(self) -> int:
        """16 kHz samples given out so far."""
        return self._framer.position_sample

    @property
    def failures(self) -> int:
        """Packets that could not be decoded, and gaps that could not be filled, so far."""
        return self._decoder.failures

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second of audio, about."""
        return TYPICAL_BYTES_PER_SECOND

    def check(self, data: bytes, *, in_event: bool) -> None:
        """Refuse audio that comes another way.

        Raises:
            InvalidEvent: It came in an event of the data channel.
        """
        del data
        if in_event:
            raise InvalidEvent(
                "this connection carries audio in its media track; add a microphone track "
                "instead of sending audio in events",
                code="audio_in_media_track",
                param="audio",
            )

    def seconds(self, data: bytes) -> float:
        """Seconds of audio in packets, gaps between them not counted."""
        return sum(_duration_s(packet.payload) for packet in unpack(data))

    def share_bytes(self, data: memoryview, samples: int) -> int:
        """How many leading bytes hold the packets of about so many 16 kHz samples, one at least."""
        budget_s, taken = samples / SAMPLE_RATE_HZ, 0
        for packet in unpack(data):
            taken += packed_bytes(packet)
            budget_s -= _duration_s(packet.payload)
            if budget_s <= 0:
                break
        return taken

    def push(self, data: bytes | memoryview) -> Samples:
        """Take packets in order; give the frames that are whole now, float32[n * 512]."""
        pieces = []
        for packet in unpack(data):
            if packet.payload:
                pieces.extend(self._take(packet.sequence, packet.timestamp, packet.payload))
            self._next_sequence = packet.sequence + 1
        return self._framer.push(np.concatenate(pieces) if pieces else _NOTHING)

    def flush(self) -> Samples:
        """Give all that is still inside, float32[n] of any length; more may follow."""
        return self._framer.take_rest()

    def _take(self, sequence: int, timestamp: int, payload: bytes) -> list[Samples]:
        pieces: list[Samples] = []
        if self._due is not None:
            gap = (timestamp - self._due + _TIMESTAMPS // 2) % _TIMESTAMPS - _TIMESTAMPS // 2
            if 0 < gap <= MOST_FILLED_S * RTP_CLOCK_HZ:
                lost = sequence != self._next_sequence
                pieces.extend(self._filled(gap // _TICKS, payload if lost else b""))
        samples = self._decoder.decode(payload)
        if samples is None:  # it is damaged
            samples = np.zeros(round(_duration_s(payload) * SAMPLE_RATE_HZ), np.float32)
        pieces.append(samples)
        self._due = (timestamp + samples.size * _TICKS) % _TIMESTAMPS
        return pieces

    def _filled(self, count: int, next_payload: bytes) -> list[Samples]:
        """float32 of `count` samples in all, before a packet; an empty one: nothing was lost."""
        if not next_payload:
            return [np.zeros(count, np.float32)]
        copied = min(round(_duration_s(next_payload) * SAMPLE_RATE_HZ), count)
        faded = min(_CONCEALED_SAMPLES, count - copied)
        return [
            self._decoder.conceal(faded),
            np.zeros(count - faded - copied, np.float32),
            self._decoder.recover(next_payload, copied),
        ]


def _duration_s(payload: bytes) -> float:
    """How long a packet sounds (RFC 6716, sections 3.1 and 3.2); 0 for none."""
    if not payload:
        return 0.0
    toc = payload[0]
    config, code = toc >> 3, toc & 3
    if config < 12:
        frame_ms = (10.0, 20.0, 40.0, 60.0)[config & 3]
    elif config < 16:
        frame_ms = (10.0, 20.0)[config & 1]
    else:
        frame_ms = (2.5, 5.0, 10.0, 20.0)[config & 3]
    count = 1 if code == 0 else 2
    if code == 3:
        count = payload[1] & 63 if len(payload) > 1 else 0
    return min(frame_ms * count, 120.0) / 1000
