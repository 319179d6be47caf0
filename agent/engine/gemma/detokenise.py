"""Token ids to text while they come: whole characters, without special tokens and thoughts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.engine.gemma.checkpoint import Checkpoint
from agent.engine.gemma.prompts import PromptRenderer

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_UNKNOWN = "\ufffd"
"""What decoders write for bytes that are no character, or not yet."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one push released.

    Attributes:
        text: More text; often empty.
        characters: Characters released so far.
        tokens: Tokens pushed so far of which all text has been released.
        stopped: Whether a stop token or stop string came; nothing comes after it.
    """

    text: str
    characters: int
    tokens: int
    stopped: bool


class Vocabulary:
    """What detokenising needs to know of a checkpoint; shared by all its branches.

    Attributes:
        stops: Tokens that end an answer.
        thought: The tokens that begin and end the thinking channel, or None.
    """

    def __init__(self, checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
        self._tokenizer = tokenizer = checkpoint.tokenizer
        vocabulary = tokenizer.get_vocab()
        self._texts = frozenset(vocabulary.values()) - renderer.special
        self._bytes = frozenset(
            token for name, token in vocabulary.items() if _BYTE.fullmatch(name)
        )
        self._alone: dict[int, str | None] = {}
        self._neutral = tokenizer("a", add_special_tokens=False)["input_ids"]
        self.stops = _stops(checkpoint, renderer)
        self.thought = _thought(tokenizer, vocabulary)

    def is_text(self, token: int) -> bool:
        """Whether a token is text, no mark and no number without a token."""
        return token in self._texts

    def is_byte(self, token: int) -> bool:
        """Whether a token is one byte of a character that has no token."""
        return token in self._bytes

    def alone(self, token: int) -> str | None:
        """A token's text after any other; None where that depends on its neighbours."""
        if token not in self._alone:
            text = self.after(self._neutral, [token])
            partial = token in self._bytes or _UNKNOWN in text
            self._alone[token] = None if partial else text
        return self._alone[token]

    def after(self, before: Sequence[int], tokens: Sequence[int]) -> str:
        """Text of tokens that come after others, which end with a whole character."""
        return self._decode([*before, *tokens])[len(self._decode(before)) :]

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def thinks(self, prompt: Sequence[object]) -> bool:
        """Whether what follows a prompt is inside the thinking channel."""
        if self.thought is None:
            return False
        begin, end = self.thought
        last = next((token for token in reversed(prompt) if token in {begin, end}), None)
        return last == begin


class Detokeniser:
    """One branch's text."""

    def __init__(
        self, vocabulary: Vocabulary, stop: Sequence[str] = (), *, thinking: bool = False
    ) -> None:
        """Begin.

        Args:
            vocabulary: Of the checkpoint.
            stop: Strings that end the answer; they are not part of it.
            thinking: Whether the prompt ends inside the thinking channel.
        """
        self._vocabulary = vocabulary
        self._stop = [text for text in stop if text]
        self._thinking = thinking
        # The last token of which all text was released: how the first of a text is decoded
        # may differ. Then those after it, and how much of their text was released.
        self._last: list[int] = []
        self._pending: list[int] = []
        self._taken = 0
        self._held = ""
        self._pushed = 0
        self._characters = 0
        self._tokens = 0
        self._stopped = False

    def push(self, token: int) -> Piece:
        """Take the next token.

        Raises:
            ValueError: It was stopped already.
        """
        if self._stopped:
            raise ValueError("nothing comes after a stop")
        self._pushed += 1
        if token in self._vocabulary.stops:
            return self.finish()
        if self._is_text(token):
            self._pending.append(token)
        return self._release(final=False)

    def finish(self) -> Piece:
        """No token comes any more: release what was held back."""
        piece = self._release(final=True)
        self._stopped = True
        return Piece(piece.text, piece.characters, self._pushed, stopped=True)

    def _is_text(self, token: int) -> bool:
        if self._vocabulary.thought is not None:
            begin, end = self._vocabulary.thought
            if token in {begin, end}:
                self._thinking = token == begin
                return False
        return not self._thinking and self._vocabulary.is_text(token)

    def _release(self, *, final: bool) -> Piece:
        fresh = self._decode(final=final)
        text, stopped = self._before_stop(self._held + fresh, final=final)
        self._stopped = stopped
        self._characters += len(text)
        if stopped or (not self._held and not self._pending):
            self._tokens = self._pushed
        return Piece(text, self._characters, self._tokens, stopped)

    def _decode(self, *, final: bool) -> str:
        """Text that no later token can change."""
        pending, vocabulary = self._pending, self._vocabulary
        if len(pending) == 1 and self._last and not self._taken:
            alone = vocabulary.alone(pending[0])
            if alone:
                self._settle()
                return alone
        end = len(pending)
        while end and not final and vocabulary.is_byte(pending[end - 1]):
            # Bytes are characters only together, and a bad one spoils those before it.
            end -= 1
        text = vocabulary.after(self._last, pending[:end]) if end else ""
        ready = len(text) - (not final and text.endswith(_UNKNOWN))
        fresh = text[self._taken : ready]
        self._taken = max(self._taken, ready)
        if pending and end == len(pending) and ready == len(text):
            self._settle()
        return fresh

    def _settle(self) -> None:
        """All that was pending is released."""
        self._last, self._pending, self._taken = self._pending[-1:], [], 0

    def _before_stop(self, text: str, *, final: bool) -> tuple[str, bool]:
        """Text before the first stop string; what may become one is held back."""
        found = [
            (place + len(stop), place) for stop in self._stop if (place := text.find(stop)) >= 0
        ]
        if found:
            # What is complete first, so that it makes no difference in which pieces text comes.
            self._held = ""
            return text[: min(found)[1]], True
        keep = 0 if final else max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of a text with which a stop string begins."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def _stops(checkpoint: Checkpoint, renderer: PromptRenderer) -> frozenset[int]:
    ends = checkpoint.model.generation_config.eos_token_id
    stops: set[int] = set(ends if isinstance(ends, Iterable) else [] if ends is None else [ends])
    turn = renderer.end_of_turn()
    return frozenset(stops if turn is None else stops | {turn})


def _thought(tokenizer: Any, vocabulary: dict[str, int]) -> tuple[int, int] | None:
    names = [
        getattr(tokenizer, f"{name}_token", None) or default
        for name, default in (("soc", "<|channel>"), ("eoc", "<channel|>"))
    ]
    begin, end = (vocabulary.get(str(name)) for name in names)
    return None if begin is None or end is None else (begin, end)
