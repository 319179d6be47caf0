"""From a stream of events to spoken turns: what was heard, what was answered, how fast.

`TurnTracker` has no clock and no socket: give it every event with the time it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Turn:
    """One spoken turn of the user and its answer, as far as they are known.

    Times ending in `_at` are those given to `TurnTracker.receive`, in seconds.

    Attributes:
        item_id: The user item.
        audio_start_ms: Where it began, in milliseconds of audio sent in the session.
        audio_end_ms: Where it ended, as `input_audio_buffer.speech_stopped` said.
        ended_at: When the server said that the turn is over.
        transcript: What was heard so far; empty when nothing was.
        heard: Whether the transcript is final.
        response_id: The answer's response, once it began.
        answer: The answer's text so far.
        first_text_at: When the first text of the answer came.
        status: How the answer ended (`completed`, `cancelled`, `incomplete`, `failed`);
            None while it goes on.
        timings: The server's own measurements (`voice_agent.turn.timings`), if asked for.
        problems: What went wrong in recognition or answer, in the server's words.
    """

    item_id: str
    audio_start_ms: int | None = None
    audio_end_ms: int | None = None
    ended_at: float | None = None
    transcript: str = ""
    heard: bool = False
    response_id: str | None = None
    answer: str = ""
    first_text_at: float | None = None
    status: str | None = None
    timings: Mapping[str, Any] | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether the speaker is done."""
        return self.ended_at is not None


class TurnTracker:
    """Follows a session's events.

    Attributes:
        turns: All turns, in the order in which they began.
    """

    def __init__(self, *, transcripts: bool, answers: bool) -> None:
        """Say what the session was set up to give, so that it is waited for.

        Args:
            transcripts: `audio.input.transcription` is set.
            answers: `turn_detection.create_response` is true.
        """
        self.turns: list[Turn] = []
        self._wants_transcripts = transcripts
        self._wants_answers = answers
        self._by_item: dict[str, Turn] = {}
        self._by_response: dict[str, Turn] = {}
        self._handlers: dict[str, Callable[[Mapping[str, Any], float], None]] = {
            "input_audio_buffer.speech_started": self._speech_started,
            "input_audio_buffer.speech_stopped": self._speech_stopped,
            "input_audio_buffer.committed": self._committed,
            "conversation.item.input_audio_transcription.delta": self._transcript_delta,
            "conversation.item.input_audio_transcription.completed": self._transcript_completed,
            "conversation.item.input_audio_transcription.failed": self._transcript_failed,
            "response.created": self._response_created,
            "response.output_text.delta": self._text_delta,
            "response.done": self._response_done,
            "voice_agent.turn.timings": self._timings,
        }

    def receive(self, event: Mapping[str, Any], now: float) -> None:
        """Take one event; those that do not belong to a spoken turn are ignored."""
        handle = self._handlers.get(event["type"])
        if handle is not None:
            handle(event, now)

    def waiting_for(self) -> str | None:
        """What is still to come for the speech so far, in words; None when nothing is."""
        if any(not turn.over for turn in self.turns):
            return "the end of the turn"
        if self._wants_transcripts and any(not turn.heard for turn in self.turns):
            return "the transcript"
        if self._wants_answers and self._answer_is_missing():
            return "the answer"
        return None

    def _answer_is_missing(self) -> bool:
        """Whether an answer goes on, or the last turn's has not begun.

        A turn without an answer gets none when the speaker went on before it began, when no
        words were heard, or when it was a "mhm" over an answer: its timings say so.
        """
        if any(turn.response_id and turn.status is None for turn in self.turns):
            return True
        if not self.turns or self.turns[-1].response_id is not None or self.turns[-1].timings:
            return False
        return bool(self.turns[-1].transcript) or not self.turns[-1].heard

    def _turn(self, item_id: str) -> Turn:
        turn = self._by_item.get(item_id)
        if turn is None:
            turn = self._by_item[item_id] = Turn(item_id)
            self.turns.append(turn)
        return turn

    def _speech_started(self, event: Mapping[str, Any], now: float) -> None:
        del now
        self._turn(event["item_id"]).audio_start_ms = event["audio_start_ms"]

    def _speech_stopped(self, event: Mapping[str, Any], now: float) -> None:
        turn = self._turn(event["item_id"])
        turn.audio_end_ms = event["audio_end_ms"]
        turn.ended_at = now

    def _committed(self, event: Mapping[str, Any], now: float) -> None:
        turn = self._turn(event["item_id"])
        if turn.ended_at is None:
            turn.ended_at = now

    def _transcript_delta(self, event: Mapping[str, Any], now: float) -> None:
        del now
        self._turn(event["item_id"]).transcript += event["delta"]

    def _transcript_completed(self, event: Mapping[str, Any], now: float) -> None:
        del now
        turn = self._turn(event["item_id"])
        turn.transcript = event["transcript"].strip()
        turn.heard = True

    def _transcript_failed(self, event: Mapping[str, Any], now: float) -> None:
        del now
        turn = self._turn(event["item_id"])
        turn.heard = True
        turn.problems.append(f"not recognised: {event['error']['message']}")

    def _response_created(self, event: Mapping[str, Any], now: float) -> None:
        del now
        last = next((turn for turn in reversed(self.turns) if turn.over), None)
        if last is not None and last.response_id is None:
            last.response_id = event["response"]["id"]
            self._by_response[event["response"]["id"]] = last

    def _text_delta(self, event: Mapping[str, Any], now: float) -> None:
        turn = self._by_response.get(event["response_id"])
        if turn is None:
            return
        if turn.first_text_at is None:
            turn.first_text_at = now
        turn.answer += event["delta"]

    def _response_done(self, event: Mapping[str, Any], now: float) -> None:
        del now
        response = event["response"]
        turn = self._by_response.get(response["id"])
        if turn is None:
            return
        turn.status = response["status"]
        details = response.get("status_details") or {}
        if turn.status == "failed":
            error = details.get("error") or {}
            turn.problems.append(f"not answered: {error.get('message') or error.get('code')}")

    def _timings(self, event: Mapping[str, Any], now: float) -> None:
        del now
        turn = self._by_item.get(event["item_id"])
        if turn is not None:
            turn.timings = event
