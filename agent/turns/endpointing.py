"""How long a silence must last before it ends the turn."""

from __future__ import annotations

from agent.config import VadSettings
from agent.protocol.config import SemanticVad, ServerVad

# Fixed waits for `semantic_vad`, well inside the protocol's limits of 8, 4 and 2 s, until a
# turn-completion probability decides within them.
EAGERNESS_SILENCE_MS = {"low": 1_500, "medium": 800, "auto": 800, "high": 400}


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
