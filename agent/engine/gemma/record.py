"""A conversation's items with their clips, and the prompts that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from agent.engine.branches import BranchKind, BranchRequest
from agent.engine.contract import ConversationSettings, Truncation
from agent.engine.gemma.budget import LEFT_SHARE, MOST_SHARE, Absent, first_kept, turn_starts
from agent.engine.gemma.prompts import Answer, PromptItem, Transcript, Translation, TurnEnd
from agent.engine.gemma.sounds import Sound
from agent.engine.gemma.summary import (
    KEPT_SHARE,
    REQUEST,
    SUMMARISE_SHARE,
    Summary,
    turns_to_fold,
)
from agent.engine.gemma.workshop import Script, Scripts, Workshop, clip_of, spoken
from agent.engine.items import Item, Role, Speech, Text
from agent.errors import EngineError

log = structlog.get_logger(__name__)

Clips = Mapping[str, tuple[bytes, ...]]
"""16-bit PCM of spoken items, by their ids."""


@dataclass(slots=True)
class _Known:
    """An item, the same for prompts, and about how many tokens that is; None until asked."""

    item: Item
    prompt: PromptItem
    tokens: int | None = None


class Record:
    """Settings, items and their clips.

    Attributes:
        settings: The conversation's.
        items: Its items, the oldest first.
        summary: What stands for the oldest of them, or None.
    """

    def __init__(self, shop: Workshop) -> None:
        self.settings = ConversationSettings()
        self.items: tuple[Item, ...] = ()
        self.summary: Summary | None = None
        self._shop = shop
        self._scripts = Scripts(shop.renderer)
        self._sounds: dict[str, tuple[Sound, ...]] = {}
        self._known: dict[str, _Known] = {}
        self._left_out = 0

    def change(
        self, settings: ConversationSettings, items: tuple[Item, ...], clips: Clips
    ) -> list[Sound]:
        """The items are others now.

        Args:
            settings: From now on.
            items: From now on; their speech is in `clips`, now or when they were new.
            clips: Of spoken items that are new.

        Returns:
            Clips that belong to no item any more.
        """
        self.settings, self.items = settings, items
        self._sounds.update(self.sounds_of(clips))
        here = {item.id for item in items}
        self._known = {item_id: one for item_id, one in self._known.items() if item_id in here}
        gone = [item_id for item_id in self._sounds if item_id not in here]
        return [sound for item_id in gone for sound in self._sounds.pop(item_id)]

    def heard(self, item_id: str, sounds: Sequence[Sound]) -> None:
        """An item that comes next was heard as these clips."""
        self._sounds[item_id] = tuple(sounds)

    def sounds_of(self, clips: Clips) -> dict[str, tuple[Sound, ...]]:
        """Clips to be heard, by the ids of their items."""
        return {
            item_id: tuple(self._shop.sound(part, closed=True) for part in parts)
            for item_id, parts in clips.items()
        }

    @property
    def sounds(self) -> list[Sound]:
        """The clips of all items."""
        return [sound for sounds in self._sounds.values() for sound in sounds]

    def known_words(self, request: BranchRequest) -> str | None:
        """A transcript that came with its item, if that is what is asked for."""
        if request.kind is not BranchKind.TRANSCRIPT or request.item_id in self._sounds:
            return None
        for item in self.items:
            for part in item.content if item.id == request.item_id else ():
                if isinstance(part, Speech) and part.transcript is not None:
                    return part.transcript
        return None

    # ------------------------------------------------------------ prompts

    def opening(self, open_sounds: Iterable[Sound], summary: Summary | None) -> Script:
        """The prompt of an answer to an utterance that is still open.

        Args:
            open_sounds: Its clips, the last one possibly without samples.
            summary: What stands for the oldest items; the present one, or one to come.

        Raises:
            TemplateFailed, Unsupported: As `PromptRenderer.render`.
        """
        settings, items, _ = self._kept(self.settings, summary, present=False)
        return self._scripts.of(settings, [*items, spoken(open_sounds)], Answer())

    def to_summarise(self) -> tuple[Script, str] | None:
        """The prompt for a summary, if it is time for one, and the first item it stops before.

        Raises:
            TemplateFailed, Unsupported: As `PromptRenderer.render`.
        """
        if self.settings.truncation != Truncation():
            return None  # the client has chosen another way
        settings, begin = self._beginning(self.settings, self.summary)
        items = self.items[begin:]
        starts, tokens = self._turns(items)
        context, fixed = self._shop.context_tokens, self._scripts.fixed_length(settings)
        folded = turns_to_fold(
            tokens, int(SUMMARISE_SHARE * context) - fixed, int(KEPT_SHARE * context)
        )
        if not folded:
            return None
        settings, prompts, _ = self._kept(self.settings, self.summary, present=False)
        asked = PromptItem(Role.USER, (Text(REQUEST),))
        return self._scripts.of(settings, [*prompts, asked], Answer()), items[starts[folded]].id

    def prompt(
        self,
        request: BranchRequest,
        open_sounds: Sequence[Sound],
        own: Mapping[str, tuple[Sound, ...]],
    ) -> tuple[Script, Absent]:
        """The prompt of a branch, and what it leaves out.

        Args:
            request: What it is for.
            open_sounds: What was heard of the open utterance; empty when there is none.
            own: Clips of the items in the request's own context.

        Raises:
            EngineError: It asks for an item that is not here, or the template cannot write it.
        """
        if request.kind is BranchKind.TRANSCRIPT:
            sounds = self._to_transcribe(request.item_id, open_sounds)
            purpose = Transcript(self.settings.language)
            return self._scripts.of(self.settings, [spoken(sounds)], purpose), Absent()
        if request.kind is BranchKind.TRANSLATION:
            sounds = self._to_transcribe(request.item_id, open_sounds)
            script = self._scripts.of(self.settings, [spoken(sounds)], self._translation())
            return script, Absent()
        if request.kind is BranchKind.TURN_END:
            if not open_sounds:
                raise EngineError("there is no open utterance to judge")
            settings, prompts, absent = self._kept(self.settings, self.summary, present=False)
            return self._scripts.of(settings, [*prompts, spoken(open_sounds)], TurnEnd()), absent
        settings, absent = self.settings, Absent()
        if request.instructions is not None:
            settings = replace(settings, instructions=request.instructions)
        if request.context is not None:
            prompts = self._named(request.context, own)
        elif request.include_open and open_sounds:
            settings, prompts, absent = self._kept(settings, self.summary, present=False)
            prompts.append(spoken(open_sounds))
        else:
            settings, prompts, absent = self._kept(settings, self.summary, present=True)
        return self._scripts.of(settings, prompts, Answer()), absent

    def _translation(self) -> Translation:
        target = self.settings.translate_into
        if target is None:
            raise EngineError("the conversation's settings name no language to translate into")
        return Translation(self.settings.language, target)

    def _to_transcribe(self, item_id: str | None, open_sounds: Sequence[Sound]) -> Sequence[Sound]:
        if item_id is None:
            if not open_sounds:
                raise EngineError("there is no open utterance to transcribe")
            return open_sounds
        if not self._sounds.get(item_id):
            raise EngineError(f"there is no speech in an item {item_id!r}")
        return self._sounds[item_id]

    def _named(
        self, context: Sequence[Item | str], own: Mapping[str, tuple[Sound, ...]]
    ) -> list[PromptItem]:
        here = {item.id: item for item in self.items}
        prompts = []
        for entry in context:
            item = here.get(entry) if isinstance(entry, str) else entry
            if item is None:
                raise EngineError(f"there is no item {entry!r} in this conversation")
            sounds = own.get(item.id) or self._sounds.get(item.id, ())
            prompts.append(PromptItem.of(item, map(clip_of, sounds)))
        return prompts

    def _kept(
        self, settings: ConversationSettings, summary: Summary | None, *, present: bool
    ) -> tuple[ConversationSettings, list[PromptItem], Absent]:
        """What prompts have: all items, or a summary or nothing in place of the oldest turns.

        Args:
            settings: The conversation's, or a branch's own.
            summary: What stands for the oldest turns.
            present: Whether the last turn is the one that is to be answered now.
        """
        if not settings.truncation.allowed:
            return settings, [self._know(item).prompt for item in self.items], Absent()
        settings, begin = self._beginning(settings, summary)
        items = self.items[begin:]
        starts, tokens = self._turns(items, over=-1 if present else None)
        context, fixed = self._shop.context_tokens, self._scripts.fixed_length(settings)
        most, ratio = int(MOST_SHARE * context) - fixed, settings.truncation.retention_ratio
        left = int(LEFT_SHARE * context) - fixed if ratio is None else int(ratio * most)
        left_out = first_kept(tokens, most, left)
        if left_out > self._left_out:
            log.info("oldest turns left out", turns=left_out, of=len(tokens), tokens=sum(tokens))
        self._left_out = left_out
        absent = Absent(starts[left_out], begin)
        return settings, [self._know(item).prompt for item in items[absent.dropped :]], absent

    def _beginning(
        self, settings: ConversationSettings, summary: Summary | None
    ) -> tuple[ConversationSettings, int]:
        """Settings with a summary in them, and the first item that is not part of it."""
        begin = None if summary is None else summary.first_kept(self.items)
        if summary is None or begin is None:
            return settings, 0
        return summary.put_into(settings), begin

    def _turns(self, items: Sequence[Item], over: int | None = None) -> tuple[list[int], list[int]]:
        """Where turns begin, and how many tokens each takes; only the first `over` if not None."""
        starts = turn_starts(items)
        ends = [*starts[1:], len(items)]
        tokens = [
            sum(self._tokens(self._know(item)) for item in items[start:end])
            for start, end in list(zip(starts, ends, strict=True))[:over]
        ]
        return starts, tokens

    def _know(self, item: Item) -> _Known:
        """An item as prompts have it."""
        known = self._known.get(item.id)
        if known is None or known.item is not item:
            clips = map(clip_of, self._sounds.get(item.id, ()))
            known = self._known[item.id] = _Known(item, PromptItem.of(item, clips))
        return known

    def _tokens(self, known: _Known) -> int:
        if known.tokens is None:
            known.tokens = self._scripts.length([known.prompt])
        return known.tokens
