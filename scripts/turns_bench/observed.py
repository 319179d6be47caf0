"""What a server was seen to do with one dialogue: its turns, and when it said so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.audio.pcm import SAMPLES_PER_MS


@dataclass
class SeenTurn:
    """One turn as a client learns of it.

    Attributes:
        start: First sample heard, by `speech_started`.
        end: One past the last sample heard, by `speech_stopped`; None while it is open.
        started_at: When the client learnt that it began, in seconds.
        ended_at: When the client learnt that it is over, in seconds.
        server_delay_ms: The server's own measure (extension `timings`), if it came.
    """

    start: int
    started_at: float
    end: int | None = None
    ended_at: float | None = None
    server_delay_ms: float | None = None


@dataclass
class Observation:
    """All turns of one dialogue, in order.

    Attributes:
        turns: In the order in which they began.
        sent_at: When the sample before a position was sent, in seconds, by the clock of the
            turns; None when the dialogue was not played in real time.
    """

    turns: list[SeenTurn] = field(default_factory=list)
    sent_at: Callable[[int], float] | None = None
    _by_item: dict[str, SeenTurn] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any], now: float) -> None:
        """Follow one server event that arrived at `now`."""
        match event["type"]:
            case "input_audio_buffer.speech_started":
                turn = SeenTurn(event["audio_start_ms"] * SAMPLES_PER_MS, now)
                self._by_item[event["item_id"]] = turn
                self.turns.append(turn)
            case "input_audio_buffer.speech_stopped":
                turn = self._by_item[event["item_id"]]
                turn.end = event["audio_end_ms"] * SAMPLES_PER_MS
                turn.ended_at = now
            case "voice_agent.turn.timings" if event["item_id"] in self._by_item:
                self._by_item[event["item_id"]].server_delay_ms = event["turn_end_delay_ms"]
