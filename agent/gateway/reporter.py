"""What a session reports, in logs and metrics: counts, ids and times, no words of anybody."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from agent.gateway.last_text import LastText
from agent.metrics import Metrics
from agent.session.outputs import InterruptionReport, TurnReport


class Reporter:
    """Takes the reports of one session.

    Args:
        metrics: The server's.
        log: Bound to the session.
    """

    def __init__(self, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._metrics = metrics
        self._log = log

    def turn(self, report: TurnReport) -> None:
        """A spoken turn is over and answered, or will not be."""
        self._metrics.turns.inc()
        for stage, stage_ms in report.stages_ms.items():
            self._metrics.stage_s.labels(stage).observe(stage_ms / 1000)
        if report.first_token_ms is not None:
            self._metrics.first_token_s.observe(report.first_token_ms / 1000)
        if report.status is not None:
            self._metrics.responses.labels(report.status).inc()
        self._log.info(
            "turn",
            item_id=report.item_id,
            response_id=report.response_id,
            status=report.status,
            audio_s=round(report.audio_s, 2),
            clips=report.clips,
            end_reason=report.end_reason,
            first_token_ms=report.first_token_ms and round(report.first_token_ms),
            output_tokens=report.output_tokens,
            **{f"{name}_ms": value for name, value in report.stages_ms.items()},
        )

    def interruption(self, report: InterruptionReport, last_text: LastText) -> None:
        """Speech has cancelled an answer, whose text `last_text` has followed."""
        stages_s = last_text.stages_s(report)
        for stage, stage_s in stages_s.items():
            self._metrics.interruption_s.labels(stage).observe(max(0.0, stage_s))
        self._log.info(
            "interruption",
            response_id=report.response_id,
            position_ms=report.position_ms,
            # By the machine's monotonic clock: a client on the same machine can compare its own.
            arrived_at_s=round(report.arrived_at, 4),
            **{f"{name}_ms": round(stage_s * 1000, 1) for name, stage_s in stages_s.items()},
        )
