"""What a client's turn detection settings mean for the segmenter."""

from __future__ import annotations

from agent.config import VadSettings
from agent.protocol.config import SemanticVad, ServerVad
from agent.turns.endpointing import EAGERNESS_SILENCE_MS


def vad_settings(base: VadSettings, detection: ServerVad | SemanticVad | None) -> VadSettings:
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
        return base.model_copy(
            update={"silence_duration_ms": EAGERNESS_SILENCE_MS[detection.eagerness]}
        )
    return base
