"""What all senders agree on: pieces of 40 ms, who speaks when, and what they report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

PIECE_S = 0.04
NOISE_DBFS = -60.0
NOISE_PIECES = 250  # 10 s, repeated
GAP_S = 3.0  # between two recordings

# A long silence limit: a recording with pauses in it is still one turn.
TURN_DETECTION = {"type": "server_vad", "silence_duration_ms": 1500, "create_response": False}
SESSION: dict[str, Any] = {
    "type": "realtime",
    "audio": {"input": {"turn_detection": TURN_DETECTION}},
}


@dataclass
class Load:
    """What the sending process reports.

    Attributes:
        pieces: Messages sent.
        spoken: Recordings played to their end.
        seen: Turns that the server committed.
        errors: Error events and early ends, as text.
        late_s: How late each message was sent.
        cpu_percent: CPU time of the sending; 100 is one core.
    """

    pieces: int = 0
    spoken: int = 0
    seen: int = 0
    errors: list[str] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    cpu_percent: float = 0.0


class Speaker:
    """Says the recording on one stream after the other, with a gap between."""

    def __init__(self, recording: list[Any], streams: int) -> None:
        self._recording = recording
        self._streams = streams
        self._gap_pieces = round(GAP_S / PIECE_S)
        self._period = len(recording) + self._gap_pieces

    def piece(self, stream: int, tick: int) -> Any:
        """What `stream` says in this tick, or None when it is silent."""
        if not self._recording:
            return None
        round_number, position = divmod(tick, self._period)
        if stream != round_number % self._streams or position >= len(self._recording):
            return None
        return self._recording[position]

    def spoken(self, ticks: int) -> int:
        """Recordings finished after so many ticks, and long enough for their turn to end."""
        return ticks // self._period if self._recording else 0

    def whole(self, ticks: int) -> int:
        """The next tick from `ticks` on at which nobody speaks and no turn is open."""
        return -(-ticks // self._period) * self._period if self._recording else ticks


def noise(rate_hz: int) -> np.ndarray:
    """Ten seconds at the level of a quiet room, float32[T]."""
    samples = np.random.default_rng(0).standard_normal(int(NOISE_PIECES * PIECE_S * rate_hz))
    return (samples * 10 ** (NOISE_DBFS / 20)).astype(np.float32)
