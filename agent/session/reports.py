"""Where the time of a spoken turn went."""

from __future__ import annotations

from typing import Any

from agent.audio.pcm import SAMPLES_PER_MS
from agent.protocol import server_events
from agent.session.interruption import Overlap
from agent.session.listening import Turn
from agent.session.outputs import InterruptionReport, TurnReport
from agent.session.responses import Response


def report_turn(turn: Turn, response: Response | None) -> tuple[TurnReport, dict[str, Any]]:
    """A turn's report, and the same as our extension event.

    Args:
        turn: The turn.
        response: Its answer, ended, or None when there was none.
    """
    stages_ms = {"endpointing": turn.turn_end_delay_ms}
    first_token_ms = None
    if response is not None:
        stages_ms |= _after_turn(turn, response)
        if response.first_text_at is not None:
            first_token_ms = (response.first_text_at - turn.speech_ended_at) * 1000
            # Queues, the way between the processes, and waiting for an earlier answer.
            stages_ms["other"] = first_token_ms - sum(stages_ms.values())
    stages_ms = {name: round(value, 1) for name, value in stages_ms.items()}
    report = TurnReport(
        item_id=turn.item_id,
        response_id=None if response is None else response.id,
        status=None if response is None else response.status,
        audio_s=turn.audio_s,
        clips=turn.clips,
        end_reason=turn.reason,
        turn_end_delay_ms=turn.turn_end_delay_ms,
        first_token_ms=first_token_ms,
        stages_ms=stages_ms,
        output_tokens=0 if response is None else response.usage.output_tokens,
    )
    event = server_events.turn_timings(
        item_id=turn.item_id,
        response_id=report.response_id,
        speech_end_ms=turn.speech_end_sample // SAMPLES_PER_MS,
        turn_end_delay_ms=round(turn.turn_end_delay_ms, 1),
        speech_end_to_first_token_ms=None if first_token_ms is None else round(first_token_ms, 1),
        stages_ms=stages_ms,
    )
    return report, event


def report_interruption(overlap: Overlap, response: Response) -> InterruptionReport | None:
    """What speech did to the answer that it cancels; None where a few words did that."""
    if overlap.enough is None or overlap.withheld_at is None:
        return None
    return InterruptionReport(
        response_id=response.id,
        position_ms=overlap.enough.position_ms,
        arrived_at=overlap.enough.arrived_at,
        heard_at=overlap.enough_at,
        withheld_at=overlap.withheld_at,
        last_text_at=response.last_text_at,
    )


def _after_turn(turn: Turn, response: Response) -> dict[str, float]:
    """The engine's stages without what an early answer did before the turn was over."""
    stages_ms = dict(response.stages_ms or {})
    if response.began_at is None:
        return stages_ms
    ahead_ms = max(0.0, (turn.ended_at - response.began_at) * 1000)
    for name, stage_ms in stages_ms.items():
        stages_ms[name] = max(0.0, stage_ms - ahead_ms)
        ahead_ms = max(0.0, ahead_ms - stage_ms)
    return stages_ms
