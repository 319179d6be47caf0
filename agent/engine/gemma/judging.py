"""How likely the speaker has finished: one step in a branch, of which nothing stays.

The model is asked in words whether the turn is over. What it would answer is not written: the
probability of "yes" against "no" is read from the logits behind the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agent.engine.branches import FinishReason
from agent.engine.gemma.decoding import Decoding
from agent.engine.gemma.prompts import NO, YES
from agent.engine.gemma.workshop import Workshop
from agent.errors import Unsupported


class Judging(Decoding):
    """A branch that reads one probability."""

    def _tokens_to_weigh(self, shop: Workshop) -> tuple[int, ...]:
        yes, no = map(shop.renderer.first_tokens, (YES, NO))
        if set(yes) & set(no):
            raise Unsupported("the tokenizer of this model does not tell yes from no")
        self._yes_count = len(yes)
        return (*yes, *no)

    def weigh(self, logits: Sequence[float]) -> None:
        """See `Row.weigh`."""
        yes, no = logits[: self._yes_count], logits[self._yes_count :]
        self._probability = probability_of_yes(yes, no)

    def _take(self, token: int) -> None:
        del token  # what it would write is not asked for
        self._output_tokens += 1
        self._end(FinishReason.STOP)


def probability_of_yes(yes: Sequence[float], no: Sequence[float]) -> float:
    """The share of one group of answers in the probability of both, from their logits."""
    highest = max(*yes, *no)
    likely = math.fsum(math.exp(logit - highest) for logit in yes)
    unlikely = math.fsum(math.exp(logit - highest) for logit in no)
    return likely / (likely + unlikely)
