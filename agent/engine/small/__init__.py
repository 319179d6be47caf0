"""The embedded engine: Whisper base hears, SmolLM2-135M answers. No GPU, no model hub.

`create` is what the engine process calls; the libraries are loaded by `Engine.start`.
"""

from __future__ import annotations

from agent.engine.small.engine import SmallEngine
from agent.engine.small.options import INFO, SmallOptions

__all__ = ["INFO", "SmallEngine", "SmallOptions", "create"]


def create(options: dict[str, object]) -> SmallEngine:
    """The engine of these options, as `SmallOptions.to_json` gave them."""
    return SmallEngine(SmallOptions(**options))  # type: ignore[arg-type]  # from to_json
