"""Prompts as sequences of tokens: text ids, and soft tokens that name a clip and a place in it.

The checkpoint's own chat template writes the text, with a placeholder for every clip; each
placeholder becomes begin of audio, the clip's soft tokens, end of audio, as transformers'
`Gemma4Processor` does it. Which tokens these are is read from the checkpoint.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.engine.contract import ConversationSettings
from agent.engine.gemma.chat import ChatTemplate, ClipRef, PromptItem
from agent.engine.gemma.checkpoint import Checkpoint
from agent.engine.items import Role, Text
from agent.errors import ModelStoreError, TemplateFailed, Unsupported
from agent.languages import find_language

__all__ = [
    "Answer",
    "ClipRef",
    "Prompt",
    "PromptItem",
    "PromptRenderer",
    "Purpose",
    "SoftToken",
    "Token",
    "Transcript",
    "Translation",
    "TurnEnd",
    "common_prefix",
    "split_at_clip",
]

_KEPT_CHARACTERS = 4_000_000
"""Of text whose tokens are kept: some 100 MB at most, and many whole conversations."""


@dataclass(frozen=True, slots=True)
class SoftToken:
    """The `index`-th soft audio token of a clip."""

    clip: Hashable
    index: int


Token = int | SoftToken
Prompt = Sequence[Token]


@dataclass(frozen=True, slots=True)
class Answer:
    """The assistant's next turn."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in the clips of the last item.

    Attributes:
        language: Of the speech, as a BCP-47 code or an English name; None for unknown.
        in_context: Whether the conversation before the item is part of the prompt.
    """

    language: str | None = None
    in_context: bool = False


@dataclass(frozen=True, slots=True)
class Translation:
    """What was said in the clips of the last item, then the same in another language.

    Attributes:
        source: As `Transcript.language`.
        target: The other language, as a BCP-47 code or an English name.
        in_context: As for `Transcript`.
    """

    source: str | None
    target: str
    in_context: bool = False


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """Whether the speaker of the last item's clips has finished: `YES` or `NO`.

    The conversation before it is part of the prompt, which is an answer's as far as the clips
    reach: what was heard is resident.
    """

    in_context: bool = True


Purpose = Answer | Transcript | Translation | TurnEnd

YES, NO = ("Yes", "yes"), ("No", "no")
"""How the answer to `TurnEnd` may begin."""


class PromptRenderer:
    """Renders prompts for one checkpoint; not to be used by two threads at once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Read the checkpoint's tokens.

        Raises:
            ModelStoreError: Its tokenizer has no tokens for audio, or other ones than its model.
        """
        self._tokenizer = tokenizer = checkpoint.tokenizer
        self._template = ChatTemplate(checkpoint.name, tokenizer)
        self._name = checkpoint.name
        names = [getattr(tokenizer, f"{name}_token", None) for name in ("boa", "audio", "eoa")]
        if None in names:
            raise ModelStoreError(f"the tokenizer of {checkpoint.name} has no tokens for audio")
        begin, self._placeholder, end = (str(name) for name in names)
        self._expanded = f"{begin}{self._placeholder}{end}"
        self.audio_id: int = tokenizer.convert_tokens_to_ids(self._placeholder)
        if self.audio_id != checkpoint.model.config.audio_token_id:
            raise ModelStoreError(
                f"the tokenizer of {checkpoint.name} writes audio as token {self.audio_id}, "
                f"its model reads {checkpoint.model.config.audio_token_id}"
            )
        self.special = special_tokens(tokenizer)
        self._borders = _borders(tokenizer)
        self._pieces: OrderedDict[str, list[int]] = OrderedDict()
        self._kept_characters = 0

    def render(
        self,
        settings: ConversationSettings,
        items: Sequence[PromptItem],
        purpose: Purpose = Answer(),
    ) -> list[Token]:
        """The prompt up to the first token that the model writes.

        Args:
            settings: Instructions and tools.
            items: The conversation. For a transcript or translation the last one is what is
                transcribed; its text is left out.
            purpose: What the model is to write.

        Raises:
            TemplateFailed: The checkpoint's template raised, or left a clip out.
            Unsupported: The template has no place for tools, or the language is unknown.
            ValueError: A transcript of an item without clips.
        """
        instructions, tools = settings.instructions, self._template.tools(settings.tools)
        if not isinstance(purpose, Answer):
            items = [*items[:-1], _asked(items, purpose)]
            if not purpose.in_context:
                instructions, tools, items = "", [], items[-1:]
        messages = self._template.messages(instructions, items)
        text = self._template.render(messages, tools, generate=True)
        ids = self._encode(text.replace(self._placeholder, self._expanded))
        return self._expand(ids, [clip for item in items for clip in item.clips])

    def first_tokens(self, words: Sequence[str]) -> tuple[int, ...]:
        """The tokens that words begin with, each once."""
        return tuple(dict.fromkeys(self._encode(word)[0] for word in words))

    def end_of_turn(self) -> int | None:
        """The token that the template writes after an assistant's words, if it is one."""
        probe = "probed words"
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": probe}]
        rest = self._template.render(messages).rpartition(probe)[2]
        return next((token for token in self._encode(rest) if token in self.special), None)

    def _expand(self, ids: Sequence[int], clips: Sequence[ClipRef]) -> list[Token]:
        if ids.count(self.audio_id) != len(clips):
            raise TemplateFailed(
                f"the chat template of {self._name} wrote {ids.count(self.audio_id)} clips "
                f"of {len(clips)}"
            )
        prompt: list[Token] = []
        begin = 0
        for clip in clips:
            place = ids.index(self.audio_id, begin)
            prompt += ids[begin:place]
            prompt += [SoftToken(clip.clip, index) for index in range(clip.tokens)]
            begin = place + 1
        prompt += ids[begin:]
        return prompt

    def _encode(self, text: str) -> list[int]:
        # Special tokens are cut out before anything else is looked at, so that what stands
        # between two of them is encoded alone; only pieces not seen before cost anything.
        pieces = [piece for piece in self._borders.split(text) if piece]
        missing = [piece for piece in dict.fromkeys(pieces) if piece not in self._pieces]
        if missing:
            encoded = self._tokenizer(missing, add_special_tokens=False)["input_ids"]
            self._pieces.update(zip(missing, encoded, strict=True))
            self._kept_characters += sum(map(len, missing))
        ids: list[int] = []
        for piece in pieces:
            ids += self._pieces[piece]
            self._pieces.move_to_end(piece)
        while self._kept_characters > _KEPT_CHARACTERS:
            self._kept_characters -= len(self._pieces.popitem(last=False)[0])
        return ids


def split_at_clip(prompt: Prompt, clip: Hashable) -> tuple[list[Token], list[Token]]:
    """What comes before a clip's first soft token and after its last one.

    The first does not depend on how many tokens the clip has, as long as it has one.

    Raises:
        ValueError: No soft token of this clip is in the prompt.
    """
    places = [
        index
        for index, token in enumerate(prompt)
        if isinstance(token, SoftToken) and token.clip == clip
    ]
    if not places:
        raise ValueError(f"clip {clip!r} is not in the prompt")
    return list(prompt[: places[0]]), list(prompt[places[-1] + 1 :])


def common_prefix(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """How many tokens two prompts have in common from their beginning."""
    same, end = 0, min(len(one), len(other))
    if one[:end] == other[:end]:
        return end
    # They differ before `end`, and not before `same`.
    while end - same > 1:
        middle = (same + end) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            end = middle
    return same


_TURN_END_REQUEST = (
    "The speaker is silent now. Have they finished what they want to say, so that it is your turn "
    "to speak? Answer yes if they have finished, no if they have only paused and will go on. "
    "Answer with this one word only."
)


def language_name(language: str) -> str | None:
    """The English name of a language, from its BCP-47 code or its name; None if unknown."""
    known = find_language(language)
    return None if known is None else known.name


def _asked(items: Sequence[PromptItem], purpose: Transcript | Translation | TurnEnd) -> PromptItem:
    """The last item's clips with what is asked about them."""
    if not items or not items[-1].clips:
        raise ValueError("a transcript needs an item with clips, as the last one")
    if isinstance(purpose, TurnEnd):
        text = _TURN_END_REQUEST
    elif isinstance(purpose, Translation):
        text = _translation_request(purpose.source, purpose.target)
    else:
        text = _recognition_request(purpose.language)
    return replace(items[-1], role=Role.USER, content=(*items[-1].clips, Text(text)))


def _recognition_request(language: str | None) -> str:
    """Google's recognition prompt (the model card of Gemma 4, "Audio")."""
    name = language_name(language) if language else None
    what = f"in {name} into {name} text" if name else "in its original language"
    return (
        f"Transcribe the following speech segment {what}.\n\n"
        "Follow these specific instructions for formatting the answer:\n"
        "* Only output the transcription, with no newlines.\n"
        "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point seven, "
        "and write 3 instead of three."
    )


def _translation_request(source: str | None, target: str) -> str:
    """Google's translation prompt (the model card of Gemma 4, "Audio")."""
    spoken = "its original language" if source is None else language_name(source)
    wanted = language_name(target)
    if spoken is None or wanted is None:
        raise Unsupported(f"no name is known for one of the languages {source!r}, {target!r}")
    return (
        f"Transcribe the following speech segment in {spoken}, then translate it into {wanted}.\n"
        f"When formatting the answer, first output the transcription in {spoken}, "
        f"then one newline, then output the string '{wanted}: ', "
        f"then the translation in {wanted}."
    )


def special_tokens(tokenizer: Any) -> frozenset[int]:
    """Ids of all tokens that are marks, not text."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(token for token, content in added if content.special)


def _borders(tokenizer: Any) -> re.Pattern[str]:
    """Where a text can be cut without changing how it is encoded: before special tokens."""
    plain = [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special
        and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
    ]
    return re.compile(f"(?={'|'.join(map(re.escape, plain))})" if plain else "(?!)")
