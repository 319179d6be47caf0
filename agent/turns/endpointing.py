"""How long a silence must last before it ends the turn of a client with `semantic_vad`.

Pure functions of what is known about the pause: how likely it is that the speaker has
finished (see `agent.turns.scorers`), how eager the client wants to be, and the server's
settings. Where nothing is known yet, or nobody could say it in time, a fixed wait counts.
"""

from __future__ import annotations

from typing import Literal

from agent.config import TurnSettings

Eagerness = Literal["low", "medium", "high", "auto"]

LIMIT_MS = {"low": 8_000, "medium": 4_000, "auto": 4_000, "high": 2_000}
"""The protocol's: whatever is thought of a pause, after so much silence the turn is over."""

UNKNOWN_MS = {"low": 1_500, "medium": 800, "auto": 800, "high": 400}
"""The fixed wait while and where no probability is known."""

# Silence beyond the shortest one, for a speaker who has surely not finished, and for one of
# whom it is all but certain. A straight line lies between: below the threshold Smart Turn's
# probability says little more (docs/turn-taking.md has the figures).
_UNFINISHED_MS = {"low": 4_500, "medium": 2_100, "auto": 2_100, "high": 1_000}
_NEARLY_MS = {"low": 2_100, "medium": 2_100, "auto": 2_100, "high": 300}


def silence_needed_ms(
    probability: float | None, eagerness: Eagerness, settings: TurnSettings
) -> int:
    """Silence that ends the turn.

    Args:
        probability: That the speaker has finished; None when it is not known.
        eagerness: As in the protocol; `auto` is `medium`.
        settings: The server's threshold and patience.

    Returns:
        Milliseconds; the likelier the end, the fewer, and never more than `LIMIT_MS`.
    """
    longest_ms = LIMIT_MS[eagerness]
    if settings.max_endpointing_delay_ms is not None:
        longest_ms = min(longest_ms, settings.max_endpointing_delay_ms)
    shortest_ms = min(settings.min_endpointing_delay_ms, longest_ms)
    if probability is None:
        needed_ms = UNKNOWN_MS[eagerness]
    elif probability >= settings.eot_threshold:
        needed_ms = shortest_ms
    else:
        nearness = max(0.0, probability) / settings.eot_threshold
        unfinished_ms, nearly_ms = _UNFINISHED_MS[eagerness], _NEARLY_MS[eagerness]
        needed_ms = shortest_ms + round(unfinished_ms - nearness * (unfinished_ms - nearly_ms))
    return max(shortest_ms, min(needed_ms, longest_ms))
