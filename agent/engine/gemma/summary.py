"""The oldest turns of a long conversation, folded into a few sentences by the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.engine.branches import Limits
from agent.engine.contract import ConversationSettings
from agent.engine.items import Item

SUMMARISE_SHARE = 0.6
"""Of the context that turns may take before a summary of the oldest is written; before turns
are left out unread (`budget.MOST_SHARE`)."""
KEPT_SHARE = 0.3
"""Of the context that turns which stay as they are take behind it."""
MOST_TOKENS = 256
LIMITS = Limits(max_output_tokens=MOST_TOKENS, temperature=0)

REQUEST = (
    "Summarise our conversation so far for your own memory, in at most 120 words of plain prose."
    " Keep names, numbers, wishes, decisions and open questions. Write only the summary."
)
_INTRODUCTION = "Summary of the conversation before these messages:"


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands for the oldest items.

    Attributes:
        text: By the model.
        until: Id of the first item that stays as it is.
    """

    text: str
    until: str

    def first_kept(self, items: Sequence[Item]) -> int | None:
        """Index of the first item that stays; None when that is gone, and this is of no use."""
        return next((at for at, item in enumerate(items) if item.id == self.until), None)

    def put_into(self, settings: ConversationSettings) -> ConversationSettings:
        """Instructions that end with it."""
        parts = (settings.instructions, f"{_INTRODUCTION} {self.text}")
        return replace(settings, instructions="\n\n".join(part for part in parts if part))


def turns_to_fold(turn_tokens: Sequence[int], most: int, left: int) -> int:
    """How many of the oldest turns are to be folded now; 0 for none.

    Args:
        turn_tokens: Of all turns that are over, the oldest first.
        most: What they may take together.
        left: What those that stay may take; the last one always stays.
    """
    total = sum(turn_tokens)
    if total <= most:
        return 0
    folded = 0
    while folded < len(turn_tokens) - 1 and total > left:
        total -= turn_tokens[folded]
        folded += 1
    return folded
