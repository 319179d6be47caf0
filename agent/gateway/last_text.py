"""When the text that was sent last was written, and how long after speech that was to stop it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from agent.session.outputs import InterruptionReport


class LastText:
    """Follows the text of one session on its way to the connection; times in seconds."""

    def __init__(self) -> None:
        self._given_at: float | None = None
        self._written_at: float | None = None

    def note(self, event: Mapping[str, object]) -> None:
        """The session has let an event go."""
        if event["type"] == "response.output_text.delta":
            self._given_at, self._written_at = time.monotonic(), None

    def written(self) -> None:
        """All that the session has let go is written."""
        if self._written_at is None:
            self._written_at = time.monotonic()

    def stages_s(self, report: InterruptionReport) -> dict[str, float]:
        """The stages of an interruption, in seconds; see `Metrics.interruption_s`.

        `withheld` is when text began to be withheld, after the arrival of the 200th ms of speech;
        that and `last_text` are below 0 where they came first.
        """
        stages_s = {
            "heard": report.heard_at - report.arrived_at,
            "withheld": report.withheld_at - report.arrived_at,
        }
        if report.last_text_at is not None and self._given_at is not None:
            written_at = self._written_at or self._given_at
            stages_s["last_text"] = written_at - report.arrived_at
            stages_s["writing"] = written_at - self._given_at
        return stages_s
