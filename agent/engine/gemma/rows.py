"""A row: a slot on its way to hold a token sequence, and what it needs next for that.

Pure planning: nothing here touches the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from agent.engine.gemma.encoder import FRAMES_PER_TOKEN
from agent.engine.gemma.graphs import StepShapes
from agent.engine.gemma.residency import Resident, Token
from agent.engine.gemma.sampling import Draws
from agent.engine.gemma.sounds import Soft, Sound, Tail
from agent.errors import EngineError


class Kind(Enum):
    """The steps there are."""

    CLOSE = "close"  # the rest of a clip and the text behind it, or the end of a prompt
    DECODE = "decode"
    HEAR = "hear"
    RECALL = "recall"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Work:
    """One row's part of a step.

    Attributes:
        kind: Of which step.
        row: Whose.
        tokens: What is written, soft tokens before text.
        sound: The clip that is heard or recalled.
        predicts: Whether the logits behind the tokens are wanted.
    """

    kind: Kind
    row: Row
    tokens: list[Token]
    sound: Sound | None = None
    predicts: bool = False

    @property
    def text(self) -> list[int]:
        """The text tokens among them."""
        return [token for token in self.tokens if isinstance(token, int)]

    @property
    def soft(self) -> list[Soft]:
        """The soft tokens among them."""
        return [token for token in self.tokens if isinstance(token, Soft)]


class Row(ABC):
    """A slot and the tokens it is to hold.

    Attributes:
        resident: The slot; set before there is any work.
        target: What it is to hold; grows while speech is heard or a branch is decoded.
        predicts: Whether the logits behind the last token are wanted.
        mark_at: Length at which a snapshot is taken before more is written, or None.
        draws: How a predicting row chooses its next token.
        weighed: Tokens whose logits a predicting row is told of as well.
        urgency: Where there is no place for all in a step, lower comes first.
        served: When a step last had a place for it.
        began_s: When the step that predicted first began, on `perf_counter`'s clock.
    """

    predicts = False
    urgency = 2

    resident: Resident

    def __init__(self, target: list[Token]) -> None:
        self.target = target
        self.mark_at: int | None = None
        self.draws: Draws | None = None
        self.weighed: tuple[int, ...] = ()
        self.served = 0
        self.began_s: float | None = None

    def take(self, token: int) -> None:
        """The token that was chosen behind the last one of `target`; only if it `predicts`."""
        raise AssertionError(f"{type(self).__name__} asked for no token")

    def weigh(self, logits: Sequence[float]) -> None:
        """The logits of `weighed`, in their order; told before `take`, if there are any."""
        raise AssertionError(f"{type(self).__name__} asked for no logits")

    @abstractmethod
    def fail(self, error: EngineError) -> None:
        """Its work cannot be done; it is not a row any more."""

    @property
    def missing(self) -> int:
        """Tokens that are still to be written."""
        return len(self.target) - len(self.resident.held)

    def next_work(self, shapes: StepShapes) -> Work | None:
        """What is to be done next; None when all is done.

        Raises:
            Rewind: The slot must go back first.
            EngineError: It cannot be done any more.
        """
        if not self.missing:
            return None
        first = self.target[len(self.resident.held)]
        if isinstance(first, Soft):
            return self._hear(first, shapes)
        return self._read(shapes)

    def _run(self, most: int) -> list[Token]:
        at = len(self.resident.held)
        return self.target[at : at + most]

    def _read(self, shapes: StepShapes) -> Work:
        text = _text(self._run(shapes.read_tokens))
        if not self.predicts or len(text) < min(self.missing, shapes.read_tokens):
            return Work(Kind.READ, self, text)
        if self.missing == 1:
            return Work(Kind.DECODE, self, text, predicts=True)
        if self.missing <= shapes.closing_tokens:
            return Work(Kind.CLOSE, self, text, predicts=True)
        return Work(Kind.READ, self, text[: self.missing - 1])

    def _hear(self, first: Soft, shapes: StepShapes) -> Work:
        sound, tail = first.clip, first.clip.tails.get(self)
        if tail is not None and first.place == tail.begins and tail.ear is not None:
            return self._close(first, shapes)
        kept = self._kept(first, tail, shapes)
        if kept:
            return Work(Kind.RECALL, self, kept, sound)
        if first.place > sound.soft_tokens:
            raise Rewind(first)
        if first.place < sound.soft_tokens:
            raise EngineError("this speech was cut while it was about to be heard")
        if sound.seen < first.place:
            # The encoder has to catch up; the row writes nothing.
            return Work(Kind.HEAR, self, [], sound)
        piece = self._run(shapes.piece_tokens)
        if len(piece) == shapes.piece_tokens and all(_is_whole(token, sound) for token in piece):
            return Work(Kind.HEAR, self, piece, sound)
        return self._close(first, shapes)

    def _kept(self, first: Soft, tail: Tail | None, shapes: StepShapes) -> list[Token]:
        """The tokens from `first` on that the clip still has, as far as one step takes them."""
        sound = first.clip
        end = min(sound.soft_tokens, first.place + shapes.read_tokens)
        if tail is not None:
            end = min(end, tail.begins)
        if end <= first.place:
            return []
        known = sound.tokens()
        run = self._run(end - first.place)
        kept: list[Token] = []
        for token, there in zip(run, known[first.place : end], strict=False):
            if token != there:
                break
            kept.append(token)
        return kept

    def _close(self, first: Soft, shapes: StepShapes) -> Work:
        run = self._run(shapes.piece_tokens + shapes.closing_tokens)
        soft = [token for token in run if isinstance(token, Soft) and token.clip is first.clip]
        text = _text(run[len(soft) :])[: shapes.closing_tokens]
        predicts = self.predicts and len(soft) + len(text) == self.missing
        return Work(Kind.CLOSE, self, [*soft, *text], first.clip, predicts)


class Rewind(Exception):
    """A slot must go back to what is kept of a clip and hear on from there.

    Attributes:
        token: The soft token that is missing.
    """

    def __init__(self, token: Soft) -> None:
        super().__init__(f"{token.clip} cannot be heard from token {token.place} on")
        self.token = token


def _text(tokens: list[Token]) -> list[Token]:
    """The text tokens that a run begins with."""
    for place, token in enumerate(tokens):
        if not isinstance(token, int):
            return tokens[:place]
    return tokens


def _is_whole(token: Token, sound: Sound) -> bool:
    return isinstance(token, Soft) and token.clip is sound and token.frames == FRAMES_PER_TOKEN
