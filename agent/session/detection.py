"""What a client's turn detection settings mean for the segmenter."""

from __future__ import annotations

from agent.config import TurnSettings, VadSettings
from agent.protocol.config import SemanticVad, ServerVad
from agent.turns.endpointing import silence_needed_ms


def vad_settings(
    base: VadSettings, turns: TurnSettings, detection: ServerVad | SemanticVad | None
) -> VadSettings:
    """The server's VAD settings with what the client asked for put over them."""
    if isinstance(detection, ServerVad):
        return base.model_copy(
            update={
                "threshold": detection.threshold,
                "prefix_padding_ms": detection.prefix_padding_ms,
                "silence_duration_ms": detection.silence_duration_ms,
            }
        )
    if isinstance(detection, SemanticVad):
        # Until a pause has been judged.
        unknown_ms = silence_needed_ms(None, detection.eagerness, turns)
        return base.model_copy(update={"silence_duration_ms": unknown_ms})
    return base
