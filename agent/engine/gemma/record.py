"""A conversation's items with their clips, and the prompts that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from agent.engine.contract import (
    BranchKind,
    BranchRequest,
    ConversationSettings,
    Item,
    Speech,
)
from agent.engine.gemma.budget import LEFT_SHARE, MOST_SHARE, first_kept, turn_starts
from agent.engine.gemma.prompts import Answer, PromptItem, Transcript
from agent.engine.gemma.sounds import Sound
from agent.engine.gemma.workshop import Script, Scripts, Workshop, clip_of, spoken
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
    """

    def __init__(self, shop: Workshop) -> None:
        self.settings = ConversationSettings()
        self.items: tuple[Item, ...] = ()
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

    def opening(self, open_sounds: Iterable[Sound]) -> Script:
        """The prompt of an answer to an utterance that is still open.

        Raises:
            TemplateFailed, Unsupported: As `PromptRenderer.render`.
        """
        items = [*self._kept(present=False), spoken(open_sounds)]
        return self._scripts.of(self.settings, items, Answer())

    def prompt(
        self,
        request: BranchRequest,
        open_sounds: Sequence[Sound],
        own: Mapping[str, tuple[Sound, ...]],
    ) -> Script:
        """The prompt of a branch.

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
            return self._scripts.of(self.settings, [spoken(sounds)], purpose)
        settings = self.settings
        if request.instructions is not None:
            settings = replace(settings, instructions=request.instructions)
        if request.context is not None:
            prompts = self._named(request.context, own)
        elif request.include_open and open_sounds:
            prompts = [*self._kept(present=False), spoken(open_sounds)]
        else:
            prompts = self._kept(present=True)
        return self._scripts.of(settings, prompts, Answer())

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

    def _kept(self, *, present: bool) -> list[PromptItem]:
        """The items that prompts have: all, or without the oldest turns.

        Args:
            present: Whether the last turn is the one that is to be answered now.
        """
        known = [self._know(item) for item in self.items]
        starts = turn_starts(self.items)
        ends = [*starts[1:], len(known)]
        if present:
            del starts[-1], ends[-1]
        over = [
            sum(map(self._tokens, known[start:end]))
            for start, end in zip(starts, ends, strict=True)
        ]
        context = self._shop.context_tokens
        fixed = self._scripts.fixed_length(self.settings)
        left_out = first_kept(
            over, int(MOST_SHARE * context) - fixed, int(LEFT_SHARE * context) - fixed
        )
        if left_out > self._left_out:
            log.info("oldest turns left out", turns=left_out, of=len(over), tokens=sum(over))
        self._left_out = left_out
        return [one.prompt for one in (known[starts[left_out] :] if left_out else known)]

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
