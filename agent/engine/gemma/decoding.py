"""One branch in the scheduler's thread: its prompt, its tokens, its text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import structlog

from agent.engine.branches import BranchDone, BranchPiece, FinishReason, Limits, TextDelta, Usage
from agent.engine.gemma.budget import Absent
from agent.engine.gemma.detokenise import Detokeniser
from agent.engine.gemma.residency import Resident
from agent.engine.gemma.rows import Row
from agent.engine.gemma.workshop import Script, Workshop
from agent.errors import ContextOverflow, EngineError

log = structlog.get_logger(__name__)

Tell = Callable[[BranchPiece | EngineError], None]
"""Given every piece of a branch, and its error; called in the scheduler's thread."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a branch is to do.

    Attributes:
        limits: How to decode.
        tell: Takes its pieces.
        asked_s: When it was asked for, on `perf_counter`'s clock.
        is_kept: Whether its slot is kept when it has ended: it may be adopted.
        judges: Whether it is to say how likely the speaker has finished, in one step.
    """

    limits: Limits
    tell: Tell
    asked_s: float
    is_kept: bool
    judges: bool = False


class Decoding(Row):
    """A branch.

    Args:
        shop: Shared.
        asked: What it is to do.
        script: Ends where the model is to go on.
        absent: What it leaves out.
        on_end: Called once, when it has ended however it did.

    Attributes:
        sounds: The clips of its prompt.
        has_started: Whether it has a slot.
        has_failed: Whether it ended by an error.
    """

    predicts = True

    def __init__(
        self,
        shop: Workshop,
        asked: Asked,
        script: Script,
        absent: Absent,
        on_end: Callable[[Decoding], None],
    ) -> None:
        """Nothing is begun yet.

        Raises:
            ContextOverflow: The prompt leaves no room for a single token.
            Unsupported: The model cannot say what is asked.
        """
        super().__init__(script.tokens())
        check_fits(len(self.target), shop.context_tokens)
        self.asked = asked
        # Somebody waits for an answer, and for a judgement.
        self.urgency = 0 if asked.is_kept or asked.judges else 1
        self.weighed = self._tokens_to_weigh(shop)
        self.has_started = self.has_failed = False
        self._shop = shop
        self._absent = absent
        self._on_end = on_end
        self._begun_s: float | None = None
        self._first_s: float | None = None
        self._output_tokens = self._cached_tokens = 0
        self._probability: float | None = None
        self._text_tokens = sum(len(part) for part in script.parts if isinstance(part, list))
        self._audio_tokens = len(self.target) - self._text_tokens
        limits = asked.limits
        self._most_tokens = limits.max_output_tokens or shop.max_output_tokens
        sampling = shop.sampling.under(limits)
        text = (token for token in self.target if isinstance(token, int))
        self.draws = shop.device.sampler.begin(sampling, limits.seed, text)
        thinking = shop.vocabulary.thinks(script.last_text)
        self._detokeniser = Detokeniser(shop.vocabulary, thinking=thinking)
        self.sounds = set(script.sounds)
        for sound in self.sounds:
            if not sound.is_closed:  # it may go on, and this branch does not go with it
                sound.tails[self] = sound.end()

    def _tokens_to_weigh(self, shop: Workshop) -> tuple[int, ...]:
        """See `Row.weighed`; asked before anything is begun."""
        del shop
        return ()

    def start(self, resident: Resident) -> None:
        """Begin with a slot that holds the beginning of the prompt, or nothing."""
        self.resident = resident
        resident.is_busy = True
        self.has_started = True
        self._begun_s = perf_counter()
        self._cached_tokens = len(resident.held)
        self._shop.scheduler.add(self)

    def take(self, token: int) -> None:
        """A token was chosen."""
        try:
            self._take(token)
        except Exception as error:  # the boundary: one branch fails, and is in the log
            log.exception("branch failed")
            self.fail(EngineError(f"internal error: {type(error).__name__}"))

    def _take(self, token: int) -> None:
        if self._first_s is None:
            self._first_s = perf_counter()
        self._output_tokens += 1
        piece = self._detokeniser.push(token)
        if piece.text:
            self.asked.tell(TextDelta(piece.text, self._usage()))
        if piece.stopped:
            self._end(FinishReason.STOP)
        elif (
            self._output_tokens >= self._most_tokens
            or len(self.target) >= self._shop.context_tokens
        ):
            if rest := self._detokeniser.finish().text:
                self.asked.tell(TextDelta(rest, self._usage()))
            self._end(FinishReason.MAX_OUTPUT_TOKENS)
        else:
            self.target.append(token)

    def cancel(self) -> None:
        """Stop."""
        self._end(FinishReason.CANCELLED)

    def fail(self, error: EngineError) -> None:
        """See `Row.fail`."""
        self.has_failed = True
        self.asked.tell(error)
        self._leave()

    def _end(self, reason: FinishReason) -> None:
        done = BranchDone(reason, self._usage(), self._stages_ms(), self._probability)
        self.asked.tell(done)
        self._leave()

    def _leave(self) -> None:
        self._shop.scheduler.remove(self)
        for sound in self.sounds:
            self._shop.device.let_go(sound, self)
        self._on_end(self)

    def _usage(self) -> Usage:
        return Usage(
            text_tokens=self._text_tokens,
            audio_tokens=self._audio_tokens,
            cached_tokens=self._cached_tokens,
            output_tokens=self._output_tokens,
            dropped_items=self._absent.dropped,
            summarised_items=self._absent.summarised,
        )

    def _stages_ms(self) -> dict[str, float]:
        marks = [self.asked.asked_s, self._begun_s, self.began_s, self._first_s]
        stages = {}
        for name, begun, ended in zip(
            ("queue", "prefill", "first_step"), marks, marks[1:], strict=False
        ):
            if begun is not None and ended is not None:
                stages[name] = (ended - begun) * 1000
        return stages


def check_fits(prompt_tokens: int, context_tokens: int) -> None:
    """Refuse a prompt that leaves no room for a single token.

    Raises:
        ContextOverflow: It does.
    """
    if prompt_tokens >= context_tokens:
        raise ContextOverflow(
            f"the prompt takes {prompt_tokens} tokens; {context_tokens} is the most that prompt "
            "and answer may take together"
        )
