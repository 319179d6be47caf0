"""Speech as the Opus packets a browser sends, encoded before it is played."""

from __future__ import annotations

import av
import numpy as np

RATE_HZ = 48_000

COPIES = {"fec": "1", "packet_loss": "5"}
"""Options for a copy of each packet in the next one: what browsers do when our answer asks for it
and our reports tell of loss."""


def encoded(samples: np.ndarray, frame_ms: int = 20, **options: str) -> list[bytes]:
    """float32[T] at 48 kHz as packets, the last one filled up with silence.

    Args:
        samples: Mono.
        frame_ms: Of one packet.
        options: More of FFmpeg's libopus encoder.
    """
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = RATE_HZ, "mono", "s16"
    encoder.bit_rate = 32_000
    encoder.options = {"application": "voip", "frame_duration": str(frame_ms)} | options
    size = RATE_HZ * frame_ms // 1000
    padded = np.pad(samples, (0, -samples.size % size))
    pcm = (np.clip(padded, -1, 1) * 32_767).astype(np.int16).reshape(-1, 1, size)
    packets: list[bytes] = []
    for index, piece in enumerate(pcm):
        frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, index * size
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets
