"""One session's audio as Opus packets: packets in, whole 16 kHz frames out.

Gaps are filled so that the session's clock goes on as the sender's does: what was lost in the
network is concealed, what the sender left out (it is muted, or sends nothing in silence) is
silence.

Source: RFC 7587 (RTP payload format for Opus); decoding by libopus through PyAV.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agent.audio.framing import Framer
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from agent.audio.resample import Resampler
from agent.audio.rtp import RTP_CLOCK_HZ, packed_bytes, unpack
from agent.errors import InvalidEvent

CONCEALED_S = 0.12
"""Longest loss that is concealed; what is longer falls silent, faded out."""

MOST_FILLED_S = 2.0
"""Longest gap that is filled at all. After a longer one a turn was ended by the clock, and
what comes is a new beginning."""

TYPICAL_BYTES_PER_SECOND = 6_000
"""Of a browser's speech (32 to 40 kbit/s) with our framing; to judge how much waits."""

_ECHO_SAMPLES = RTP_CLOCK_HZ // 100  # 10 ms, mirrored again and again
_JOIN_SAMPLES = RTP_CLOCK_HZ // 400  # 2.5 ms
_TIMESTAMPS = 1 << 32


class OpusIntake:
    """Decodes, fills, resamples and frames what one peer sends; see `audio.rtp.pack`.

    Not for use from several threads at once. The same interface as `AudioIntake`.

    Raises:
        ModuleNotFoundError: PyAV is not installed (the extra `webrtc`).
    """

    def __init__(self) -> None:
        self._decoder = _new_decoder()
        self._resampler = Resampler(RTP_CLOCK_HZ)
        self._framer = Framer()
        self._due: int | None = None  # timestamp of the next sample, at 48 kHz
        self._next_sequence = 0
        self._tail = np.zeros(_ECHO_SAMPLES, np.float32)
        self._concealing = False

    @property
    def position_sample(self) -> int:
        """16 kHz samples given out so far."""
        return self._framer.position_sample

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
        if not pieces:
            return self._framer.push(np.zeros(0, np.float32))
        return self._framer.push(self._resampler.push(np.concatenate(pieces)))

    def flush(self) -> Samples:
        """Give all that is still inside, float32[n] of any length; more may follow."""
        frames = self._framer.push(self._resampler.flush())
        return np.concatenate((frames, self._framer.take_rest()))

    def _take(self, sequence: int, timestamp: int, payload: bytes) -> list[Samples]:
        pieces: list[Samples] = []
        if self._due is not None:
            gap = (timestamp - self._due + _TIMESTAMPS // 2) % _TIMESTAMPS - _TIMESTAMPS // 2
            if 0 < gap <= MOST_FILLED_S * RTP_CLOCK_HZ:
                lost = sequence != self._next_sequence
                pieces.append(self._concealed(gap) if lost else np.zeros(gap, np.float32))
        samples = self._decoded(payload)
        if self._concealing and samples.size >= _JOIN_SAMPLES:
            rise = np.linspace(0, 1, _JOIN_SAMPLES, dtype=np.float32)
            samples[:_JOIN_SAMPLES] *= rise
            self._concealing = False
        pieces.append(samples)
        if samples.size >= _ECHO_SAMPLES:
            self._tail = samples[-_ECHO_SAMPLES:]
        self._due = (timestamp + samples.size) % _TIMESTAMPS
        return pieces

    def _decoded(self, payload: bytes) -> Samples:
        """float32[T] at 48 kHz; silence of its length where the packet is damaged."""
        av, decoder = self._decoder
        try:
            frames = decoder.decode(av.Packet(payload))
        except av.error.FFmpegError:
            return np.zeros(round(_duration_s(payload) * RTP_CLOCK_HZ), np.float32)
        samples = [frame.to_ndarray().reshape(-1) for frame in frames]
        if not samples:
            return np.zeros(0, np.float32)
        joined = np.concatenate(samples)
        scale = np.float32(1 / 32_768) if joined.dtype == np.int16 else np.float32(1)
        return joined.astype(np.float32) * scale

    def _concealed(self, count: int) -> Samples:
        """float32[count]: the last 10 ms mirrored back and forth, fading to silence."""
        period = np.concatenate((self._tail[::-1], self._tail))
        fading = min(count, int(CONCEALED_S * RTP_CLOCK_HZ))
        made = np.zeros(count, np.float32)
        echo = np.tile(period, -(-fading // period.size))[:fading]
        made[:fading] = echo * np.linspace(1, 0, fading, dtype=np.float32)
        self._concealing = True
        return made


def _new_decoder() -> tuple[Any, Any]:
    import av  # noqa: PLC0415  # only where WebRTC is used

    decoder = av.CodecContext.create("libopus", "r")
    decoder.layout = "mono"
    decoder.sample_rate = RTP_CLOCK_HZ
    return av, decoder


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
