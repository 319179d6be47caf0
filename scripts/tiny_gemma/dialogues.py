"""Random conversations about spoken digits, as token ids and plans for their sound.

A plan says which runs of speech sound when in which clip; the sound itself is made on the
training device (`sound.py`), so a batch is small to send.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator

from scripts.tiny_gemma import words
from scripts.tiny_gemma.shapes import (
    LEAST_ROOM_SAMPLES,
    MAX_ORDINAL,
    MAX_PIECES,
    RESERVE_TOKENS,
    TOKEN_SAMPLES,
    Shape,
)
from scripts.tiny_gemma.voices import RATE_HZ, Bank


@dataclass(slots=True)
class Clip:
    """A clip's plan: pieces (run, first sample, speed, gain), digits and where they end."""

    samples: int
    pieces: list[tuple[int, int, float, float]] = field(default_factory=list)
    digits: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    @property
    def soft_tokens(self) -> int:
        """As the feature extractor counts them."""
        return -(-((self.samples - 1) // 160) // 4)

    def events(self) -> list[int]:
        """For each digit the soft token after it has ended."""
        last = self.soft_tokens - 1
        return [min(-(-end // TOKEN_SAMPLES) + 1, last) for end in self.ends]


def make_clip(bank: Bank, random: Generator, digits: int, limit_samples: int) -> Clip:
    """A clip of up to that many digits that fits."""
    voice, long = bank.voice(random), limit_samples > 10 * RATE_HZ
    longest_pause = float(random.choice([0.4, 2.0, 5.0] if long else [0.3, 0.5, 1.2]))
    position = int(RATE_HZ * random.choice([0.0, 0.05, 2.0 if long else 0.4]) * random.random())
    clip = Clip(position)
    for _ in range(4 * digits):
        run = bank.pick(random, voice)
        if len(bank.digits[run]) > digits - len(clip.digits) or len(clip.pieces) == MAX_PIECES:
            continue
        speed = float(random.uniform(0.88, 1.15))
        length = int(bank.lengths[run] / speed)
        if position + length >= limit_samples:
            break
        clip.pieces.append((run, position, speed, float(random.uniform(0.4, 1.0))))
        clip.digits += bank.digits[run]
        clip.ends += [position + int(end / speed) for end in bank.ends[run]]
        clip.samples = position + length
        pause_s = np.exp(random.uniform(np.log(0.02), np.log(longest_pause)))
        position += length + int(RATE_HZ * pause_s)
    trail = int(RATE_HZ * random.choice([0.02, 0.3, 0.8]) * random.random())
    clip.samples = min(max(clip.samples + trail, 4 * TOKEN_SAMPLES), limit_samples - 1)
    return clip


@dataclass(slots=True)
class Dialogue:
    """One row of a batch.

    Attributes:
        ids: Token ids; audio placeholders stand for soft tokens.
        learn: Which of them the model is trained to say.
        clips: Plans, in order of appearance.
        ordinals: How many digits of the turn have ended at a token, where one ends.
        reply_at: Index of the last reply's first token.
        task: What the last turn asks for.
    """

    ids: list[int] = field(default_factory=list)
    learn: list[bool] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    ordinals: dict[int, int] = field(default_factory=dict)
    reply_at: int = 0
    task: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user does and what the model shall say."""

    task: str
    clips: tuple[Clip, ...]
    text: str
    reply: str
    digits: tuple[int, ...]


class Maker:
    """Makes dialogues; one for each process.

    Args:
        tokenizer: The checkpoint's.
        bank: Runs to speak with.
        seed: Of everything random.
    """

    def __init__(self, tokenizer: Any, bank: Bank, seed: int) -> None:
        self._tokenizer, self._bank = tokenizer, bank
        self.random = np.random.default_rng(seed)
        self._known: dict[str, list[int]] = {}
        name = tokenizer.convert_tokens_to_ids
        self._bos, self.audio_id = 2, name("<|audio|>")
        self._begin, self._end = name("<|audio>"), name("<audio|>")
        self._turn, self._over = name("<|turn>"), name("<turn|>")

    def encode(self, text: str) -> list[int]:
        """Token ids of a text between two special tokens."""
        if text not in self._known:
            if len(self._known) > 20_000:
                self._known.clear()
            self._known[text] = self._tokenizer(text, add_special_tokens=False).input_ids
        return self._known[text]

    def dialogue(self, shape: Shape, clips: int, task: str | None = None) -> Dialogue:
        """A conversation that fits into a row and uses at most that many clips.

        Args:
            shape: Sizes.
            clips: Clips that are left.
            task: What its last turn asks for; None for anything.
        """
        while (made := self._attempt(shape, clips, task)) is None:
            pass
        return made

    def _attempt(self, shape: Shape, clips: int, task: str | None) -> Dialogue | None:
        """A conversation, or None where its last turn found no room."""
        out, spoken = Dialogue([self._bos], [False]), []
        standing = self._open(out, task)
        turns = 1 if shape.turns == 1 else int(self.random.integers(1, shape.turns + 1))
        if task in {"first", "before", "last"}:
            turns = max(turns, 3)
        for index in range(turns):
            last = index == turns - 1
            free = shape.tokens - len(out.ids) - RESERVE_TOKENS
            room = min(shape.samples, TOKEN_SAMPLES * free)
            left = clips - len(out.clips) - (0 if last else 1)
            if left < 1 or room < LEAST_ROOM_SAMPLES:
                if last:
                    return None
                continue
            turn = self._user(
                shape,
                room,
                left,
                spoken=spoken,
                standing=standing,
                task=task if last else None,
                last=last,
            )
            self._append(out, turn, last=last)
            if turn.digits:
                spoken.append(turn.digits)
        return out if len(out.ids) <= shape.tokens else None

    def _open(self, out: Dialogue, task: str | None) -> str:
        """The system turn; returns the task it sets for all turns, or ''."""
        random = self.random
        kind, standing = random.random(), ""
        if task == "think" or (task is None and kind < 0.04):
            standing = "think"
            text = words.instructions(random) if random.random() < 0.5 else ""
        elif task is None and kind < 0.09:
            standing = words.pick(random, ["transcribe", *words.TARGETS])
            text = self._prompt(standing)
        elif kind < 0.5:
            text = words.instructions(random)
        else:
            return ""
        ids = [self._turn, *self.encode("system\n")]
        if standing == "think":
            ids.append(self._tokenizer.convert_tokens_to_ids("<|think|>"))
        self._add(out, [*ids, *self.encode(text), self._over, *self.encode("\n")])
        return standing

    def _prompt(self, task: str) -> str:
        if task == "transcribe":
            return words.recognition_prompt(self.random)
        return words.translation_prompt(self.random, task)

    def _user(
        self,
        shape: Shape,
        room: int,
        clips: int,
        *,
        spoken: list[tuple[int, ...]],
        standing: str,
        task: str | None,
        last: bool,
    ) -> Turn:
        random = self.random
        if task is None:
            task = standing or self._choose(spoken, last)
        if task in {"first", "before", "last"} and spoken and not standing:
            if task == "before" and len(spoken) < 2:
                task = "first"
            return self._question(task, spoken)
        if task in {"typed", "chat"} and not standing:
            return self._typed(task)
        count = 0 if random.random() < 0.03 else int(random.integers(1, 11))
        heard = self._speech(shape, room, clips, count)
        digits = tuple(digit for clip in heard for digit in clip.digits)
        if not standing and task not in {"transcribe", "answer", "think", *words.TARGETS}:
            task = "answer"
        text = self._prompt(task) if task in {"transcribe", *words.TARGETS} and not standing else ""
        if task == "answer" and random.random() < 0.15:
            text = words.pick(random, words.ASK_NOW)
        return Turn(task, heard, text, self._reply(task, digits), digits)

    def _choose(self, spoken: list[tuple[int, ...]], last: bool) -> str:
        if spoken and self.random.random() < (0.5 if last else 0.25):
            return words.pick(self.random, ("first", "before", "before", "last"))
        kinds = ("answer", "transcribe", "Spanish", "Spanish", "German", "French", "typed", "chat")
        odds = (0.44, 0.28, 0.07, 0.07, 0.03, 0.03, 0.05, 0.03)
        return str(self.random.choice(kinds, p=odds))

    def _speech(self, shape: Shape, room: int, clips: int, digits: int) -> tuple[Clip, ...]:
        random, made = self.random, []
        several = shape.turns > 1 and clips > 1 and digits > 1 and random.random() < 0.25
        count = int(random.integers(2, min(clips, digits, 4) + 1)) if several else 1
        cuts = np.sort(random.permutation(np.arange(1, max(digits, 1)))[: count - 1])
        for first, last in zip([0, *cuts], [*cuts, digits], strict=True):
            limit = min(shape.samples, room // count)
            made.append(make_clip(self._bank, random, int(last - first), limit))
        return tuple(made)

    def _reply(self, task: str, digits: tuple[int, ...]) -> str:
        text = words.spaced(digits)
        if task == "transcribe":
            return text
        if task in words.TARGETS:
            return f"{text}\n{task}: {words.translated(digits, task)}" if digits else ""
        return words.REPLY.format(text) if digits else words.NOTHING_HEARD

    def _question(self, task: str, spoken: list[tuple[int, ...]]) -> Turn:
        asked, index = {
            "first": (words.ASK_FIRST, 0),
            "before": (words.ASK_BEFORE, -2),
            "last": (words.ASK_LAST, -1),
        }[task]
        text = words.pick(self.random, asked)
        return Turn(task, (), text, words.REPLY.format(words.spaced(spoken[index])), ())

    def _typed(self, task: str) -> Turn:
        random = self.random
        if task == "chat":
            known = random.random() < 0.5
            text = words.pick(random, words.CHAT) if known else words.sentence(random)
            return Turn(task, (), text, words.PLEASE, ())
        digits = tuple(int(digit) for digit in random.integers(0, 10, int(random.integers(1, 11))))
        said = words.spaced(digits)
        text = words.pick(random, words.TYPED).format(said)
        return Turn(task, (), text, words.REPLY.format(said), digits)

    def _append(self, out: Dialogue, turn: Turn, *, last: bool) -> None:
        random = self.random
        self._add(out, [self._turn, *self.encode("user\n")])
        count = 0
        for clip in turn.clips:
            start = len(out.ids) + 1
            self._add(out, [self._begin, *[self.audio_id] * clip.soft_tokens, self._end])
            for event in clip.events():
                count += 1
                out.ordinals[start + event] = min(count, MAX_ORDINAL)
            out.clips.append(clip)
        self._add(out, [*self.encode(turn.text), self._over, *self.encode("\n")])
        if not last and random.random() < 0.04:
            return  # the answer was cut off before its first word
        self._add(out, [self._turn, *self.encode("model\n")])
        out.reply_at, out.task = len(out.ids), turn.task
        reply = self.encode(turn.reply)
        if turn.task == "think" and last:
            reply = [*self._thought(turn.digits), *reply]
        if not last and len(reply) > 2 and random.random() < 0.12:
            # Interrupted: what was delivered stays, and it is no way to end an answer.
            self._add(out, reply[: int(random.integers(1, len(reply)))], learn=True)
            self._add(out, [self._over])
        else:
            # Thinking is not kept in history, and what stands there is not what was generated.
            self._add(out, [*reply, self._over], learn=last or turn.task != "think")
        self._add(out, self.encode("\n"))

    def _thought(self, digits: tuple[int, ...]) -> list[int]:
        name = self._tokenizer.convert_tokens_to_ids
        text = words.THOUGHT.format(words.spaced(digits))
        return [name("<|channel>"), *self.encode(text), name("<channel|>")]

    @staticmethod
    def _add(out: Dialogue, ids: list[int], *, learn: bool = False) -> None:
        out.ids += ids
        out.learn += [learn] * len(ids)
