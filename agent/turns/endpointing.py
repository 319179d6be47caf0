"""How long a silence must last before it ends the turn."""

from __future__ import annotations

# Fixed waits for `semantic_vad`, well inside the protocol's limits of 8, 4 and 2 s, until a
# turn-completion probability decides within them.
EAGERNESS_SILENCE_MS = {"low": 1_500, "medium": 800, "auto": 800, "high": 400}
