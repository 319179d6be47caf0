"""`idle_timeout_ms`: when nobody says anything after an answer, the model speaks up.

The time runs from the end of an answer until speech, or another answer. Source: OpenAI
Realtime API reference, `turn_detection.idle_timeout_ms` and
`input_audio_buffer.timeout_triggered`.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.protocol.config import SemanticVad, ServerVad


@dataclass(frozen=True, slots=True)
class _Quiet:
    since: float
    from_sample: int


class IdleTimeout:
    """Watches one session's silence; off unless the client asked for it."""

    def __init__(self) -> None:
        self._timeout_s: float | None = None
        self._quiet: _Quiet | None = None
        self._answers_ended = 0

    def configure(self, detection: ServerVad | SemanticVad | None) -> None:
        """Take over what the client asked for."""
        timeout_ms = detection.idle_timeout_ms if isinstance(detection, ServerVad) else None
        self._timeout_s = None if timeout_ms is None else timeout_ms / 1000

    def observe(self, now: float, sample: int, answers_ended: int, *, is_quiet: bool) -> None:
        """See how the session is, after anything happened in it.

        Args:
            now: The time.
            sample: Samples received so far.
            answers_ended: How many answers have ended so far.
            is_quiet: Whether no answer is in progress and nobody speaks.
        """
        if answers_ended != self._answers_ended:
            self._answers_ended = answers_ended
            self._quiet = _Quiet(now, sample)
        if not is_quiet:
            self._quiet = None

    @property
    def deadline(self) -> float | None:
        """When it will have been quiet for too long."""
        if self._timeout_s is None or self._quiet is None:
            return None
        return self._quiet.since + self._timeout_s

    def strike(self, now: float) -> int | None:
        """The sample since which it was quiet, once, when the time is over."""
        if self.deadline is None or now < self.deadline:
            return None
        assert self._quiet is not None
        from_sample, self._quiet = self._quiet.from_sample, None
        return from_sample
