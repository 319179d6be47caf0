"""What a conversation is made of, kept outside the engine: enough to build it again.

Pure: no engine, clock or socket. `apply` takes the same calls that the engine gets, in the
same order, and refuses what an engine would refuse, with nothing changed.

    mirror = Mirror(settings, history)
    mirror.apply(call)                  # … every call
    mirror.settle(serial, transcript)   # the engine knows what was said
    mirror.rebuild()                    # open a conversation, then make these calls
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from agent.audio.pcm import SAMPLE_RATE_HZ, Encoding, decode, encode_pcm16
from agent.engine.calls import (
    Adopt,
    Call,
    Commit,
    Configure,
    Cut,
    Delete,
    Forget,
    Hear,
    Insert,
    Pause,
    Resume,
    Truncate,
)
from agent.engine.contract import ConversationSettings
from agent.engine.history import History, answer_item
from agent.engine.items import Item, Role, Speech
from agent.engine.utterance import Utterance

_BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, slots=True)
class Rebuild:
    """How to build a conversation again.

    Attributes:
        settings: To open it with.
        history: To open it with.
        calls: To make then, in this order.
    """

    settings: ConversationSettings
    history: tuple[Item, ...]
    calls: tuple[Call, ...]


class Mirror:
    """One conversation's settings, items and open utterance.

    Speech is kept as 16-bit PCM until its words are known, and as words from then on.

    Attributes:
        settings: As configured last.
        pending: Commits whose outcome is not known yet: serial → id of their item.
    """

    def __init__(self, settings: ConversationSettings, history: Iterable[Item] = ()) -> None:
        self.settings = settings
        self.pending: dict[int, str] = {}
        self._history = History(history)
        self._utterance: Utterance | None = None

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, the oldest first; a snapshot."""
        return self._history.items

    @property
    def is_hearing(self) -> bool:
        """Whether there is an open utterance."""
        return self._utterance is not None

    @property
    def pending_s(self) -> float:
        """Seconds of committed speech whose outcome is not known yet."""
        size = sum(
            len(clip) for item_id in self.pending.values() for clip in self._clips_of(item_id)
        )
        return size / _BYTES_PER_SAMPLE / SAMPLE_RATE_HZ

    def apply(self, call: Call) -> None:
        """Note a call.

        Raises:
            ClipTooLong: As `Conversation.hear`.
            ValueError: As `Conversation.cut` and `Conversation.commit`, or an item's id is
                taken.
        """
        match call:
            case Configure(settings=settings):
                self.settings = settings
            case Adopt() | Insert() | Truncate() | Delete():
                self._apply_to_items(call)
            case _:
                self._apply_to_utterance(call)

    def _apply_to_utterance(self, call: Hear | Cut | Pause | Resume | Forget | Commit) -> None:
        utterance = self._utterance or Utterance()
        match call:
            case Hear(samples=samples):
                utterance.hear(samples)
                self._utterance = utterance if utterance.samples else None
            case Cut(keep_samples=keep_samples):
                utterance.cut(keep_samples)
            case Pause():
                utterance.pause()
            case Resume():
                utterance.resume()
            case Forget():
                self._utterance = None
            case Commit():
                self._commit(call)
            case _:
                assert_never(call)

    def _apply_to_items(self, call: Adopt | Insert | Truncate | Delete) -> None:
        match call:
            case Adopt(item_id=item_id, text=text, after=after, head=head):
                if text:
                    self._history.insert(answer_item(item_id, text), after, head=head)
            case Insert(item=item, after=after, head=head):
                self._history.insert(item, after, head=head)
            case Truncate(item_id=item_id, upto=upto):
                self._history.truncate(item_id, upto)
            case Delete(item_id=item_id):
                self._delete(item_id)
            case _:
                assert_never(call)

    def settle(self, serial: int, transcript: str | None) -> None:
        """A commit's outcome is known; its audio is dropped when its words came with it.

        It is kept in a conversation that is translated: words alone are no source for that.
        """
        item_id = self.pending.pop(serial, None)
        if transcript and self.settings.translate_into is not None:
            return
        if item_id is not None and transcript is not None:
            self._history.replace_content(item_id, (Speech(transcript=transcript),))

    def rebuild(self) -> Rebuild:
        """The calls that bring an engine without this conversation to the same state.

        Commits without a known outcome are made again, with their serials.
        """
        serials = {item_id: serial for serial, item_id in self.pending.items()}
        items = self.items
        first = next((i for i, item in enumerate(items) if item.id in serials), len(items))
        calls: list[Call] = []
        for item in items[first:]:
            if item.id in serials:
                calls.extend(_hear_again(self._clips_of(item.id)))
                calls.append(Commit(serials[item.id], item.id))
            else:
                calls.append(Insert(item))
        if self._utterance is not None:
            calls.extend(_hear_open(self._utterance))
        return Rebuild(self.settings, items[:first], tuple(calls))

    def _commit(self, call: Commit) -> None:
        utterance = self._utterance
        if utterance is None:
            raise ValueError("there is no open utterance to commit")
        clips = tuple(encode_pcm16(clip.samples) for clip in utterance.clips)
        item = Item(call.item_id, Role.USER, (Speech(clips),))
        self._history.insert(item, call.after, head=call.head)
        self._utterance = None
        self.pending[call.serial] = call.item_id

    def _delete(self, item_id: str) -> None:
        self._history.delete(item_id)
        self.pending = {
            serial: pending for serial, pending in self.pending.items() if pending != item_id
        }

    def _clips_of(self, item_id: str) -> tuple[bytes, ...]:
        item = self._history.get(item_id)
        parts = item.content if item is not None else ()
        return next((part.clips for part in parts if isinstance(part, Speech)), ())


def _hear_again(clips: tuple[bytes, ...]) -> Iterator[Call]:
    """Hear the clips of a committed item, apart."""
    for number, clip in enumerate(clips, start=1):
        samples = decode(clip, Encoding.PCM16)
        yield Hear.of(samples)
        if number < len(clips):
            yield Cut(samples.size)


def _hear_open(utterance: Utterance) -> Iterator[Call]:
    """Hear an open utterance: its clips apart, its pause where it was."""
    heard = 0
    for number, clip in enumerate(utterance.clips, start=1):
        size = clip.samples.size
        pause = size + 1 if utterance.paused_at is None else utterance.paused_at - heard
        yield Hear.of(clip.samples[:pause] if pause > 0 else clip.samples)
        if 0 < pause <= size:
            yield Pause()
        if 0 < pause < size:
            yield Hear.of(clip.samples[pause:])
        if number <= len(utterance.closed):
            yield Cut(size)
        heard += size
