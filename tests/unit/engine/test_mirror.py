"""The mirror, against a plain engine that keeps what it is told in its own way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.pcm import encode_pcm16
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
from agent.engine.items import Item, Role, Speech, Text
from agent.engine.mirror import Mirror
from agent.errors import ClipTooLong

NOBODY = ConversationSettings()


@dataclass
class PlainEngine:
    """Keeps items as `[id, role, what]` and an utterance as samples with marks in them."""

    settings: ConversationSettings
    items: list[tuple[str, str, object]] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    paused_at: int | None = None
    committed: list[tuple[int, str]] = field(default_factory=list)

    def open(self, history: Iterable[Item]) -> None:
        for item in history:
            self.items.append(plain(item))

    def make(self, call: Call) -> None:  # noqa: C901  # a table
        match call:
            case Configure(settings=settings):
                self.settings = settings
            case Hear(samples=samples):
                self.samples += samples.tolist()
            case Cut(keep_samples=keep):
                self.cuts.append(sum(self.cuts[-1:]) + keep)
            case Pause():
                if self.samples and self.paused_at is None:
                    self.paused_at = len(self.samples)
            case Resume():
                self.paused_at = None
            case Forget():
                self._clear()
            case Commit(serial=serial, item_id=item_id, after=after, head=head):
                self._place((item_id, "user", self._clips()), after, head=head)
                self.committed.append((serial, item_id))
                self._clear()
            case Adopt(item_id=item_id, text=text, after=after, head=head):
                if text:
                    self._place((item_id, "assistant", text), after, head=head)
            case Insert(item=item, after=after, head=head):
                self._place(plain(item), after, head=head)
            case Truncate(item_id=item_id, upto=upto):
                self.items = [
                    (one, role, what[:upto] if one == item_id and isinstance(what, str) else what)
                    for one, role, what in self.items
                ]
            case Delete(item_id=item_id):
                self.items = [item for item in self.items if item[0] != item_id]
                self.committed = [one for one in self.committed if one[1] != item_id]

    def _clear(self) -> None:
        self.samples, self.cuts, self.paused_at = [], [], None

    def _clips(self) -> tuple[bytes, ...]:
        borders = [0, *self.cuts, len(self.samples)]
        clips = [self.samples[a:b] for a, b in pairwise(borders)]
        return tuple(encode_pcm16(np.array(clip, np.float32)) for clip in clips if clip)

    def _place(
        self, item: tuple[str, str, object], after: str | None, *, head: bool = False
    ) -> None:
        here = [one[0] for one in self.items]
        place = here.index(after) + 1 if after in here else len(here)
        self.items.insert(0 if head else place, item)

    @property
    def state(self) -> object:
        return (
            self.settings,
            self.items,
            self.samples,
            self.cuts,
            self.paused_at,
            sorted(self.committed),
        )


def plain(item: Item) -> tuple[str, str, object]:
    (part,) = item.content or (Text(""),)
    return item.id, str(item.role), part.text if isinstance(part, Text) else part


def sound(count: int, value: int) -> Hear:
    return Hear.of(np.full(count, value / 128, np.float32))


@st.composite
def conversations(draw: st.DrawFn) -> list[Call]:  # noqa: C901  # a table
    """Legal calls in any order, over a handful of items."""
    calls: list[Call] = []
    open_samples, heard = 0, False
    known: list[str] = []
    for fresh in range(draw(st.integers(0, 40))):
        kind = draw(st.sampled_from("hhhccppprffmmmaiitdg"))
        after = draw(st.sampled_from([None, "unknown", *known]))
        item_id = f"i{fresh}"
        match kind:
            case "h":
                count = draw(st.integers(1, 9))
                calls.append(sound(count, draw(st.integers(-128, 127))))
                open_samples += count
                heard = True
            case "c" if open_samples:
                keep = draw(st.integers(1, open_samples))
                calls.append(Cut(keep))
                open_samples -= keep
            case "p":
                calls.append(Pause())
            case "r":
                calls.append(Resume())
            case "f":
                calls.append(Forget())
                open_samples, heard = 0, False
            case "m" if heard:
                calls.append(Commit(fresh, item_id, after, draw(st.booleans())))
                open_samples, heard = 0, False
                known.append(item_id)
            case "a":
                text = draw(st.text(max_size=5))
                calls.append(Adopt(1, item_id, text, after, draw(st.booleans())))
                known += [item_id] if text else []
            case "i":
                item = Item(item_id, Role.USER, (Text(draw(st.text(max_size=5))),))
                calls.append(Insert(item, after, draw(st.booleans())))
                known.append(item_id)
            case "t" if known:
                calls.append(Truncate(draw(st.sampled_from(known)), draw(st.integers(1, 5))))
            case "d" if known:
                calls.append(Delete(draw(st.sampled_from(known))))
            case "g":
                calls.append(Configure(ConversationSettings(draw(st.text(max_size=3)))))
    return calls


def directly(calls: Iterable[Call]) -> PlainEngine:
    engine = PlainEngine(NOBODY)
    for call in calls:
        engine.make(call)
    return engine


def rebuilt(mirror: Mirror) -> PlainEngine:
    rebuild = mirror.rebuild()
    engine = PlainEngine(rebuild.settings)
    engine.open(rebuild.history)
    for call in rebuild.calls:
        engine.make(call)
    return engine


def mirror_of(calls: Iterable[Call]) -> Mirror:
    mirror = Mirror(NOBODY)
    for call in calls:
        mirror.apply(call)
    return mirror


@given(conversations())
def test_a_rebuilt_conversation_is_the_one_that_was(calls: list[Call]) -> None:
    assert rebuilt(mirror_of(calls)).state == directly(calls).state


@given(conversations(), st.randoms(use_true_random=False))
def test_what_was_heard_is_kept_as_words_once_they_are_known(calls, random) -> None:  # type: ignore[no-untyped-def]
    mirror, engine = mirror_of(calls), directly(calls)
    for serial, item_id in list(mirror.pending.items()):
        if random.random() < 0.5:
            mirror.settle(serial, f"words of {serial}")
            engine.committed.remove((serial, item_id))
            engine.items = [
                (one, role, Speech(transcript=f"words of {serial}") if one == item_id else what)
                for one, role, what in engine.items
            ]
    assert rebuilt(mirror).state == engine.state


@given(conversations())
def test_rebuilding_changes_nothing_and_can_be_repeated(calls: list[Call]) -> None:
    mirror = mirror_of(calls)
    once = rebuilt(mirror).state
    again = mirror_of([])
    rebuild = mirror.rebuild()
    again.apply(Configure(rebuild.settings))
    for item in rebuild.history:
        again.apply(Insert(item))
    for call in rebuild.calls:
        again.apply(call)
    assert rebuilt(again).state == once


def test_seconds_that_wait_are_those_of_unsettled_commits() -> None:
    mirror = mirror_of([sound(16_000, 1), Cut(8_000), Commit(1, "a"), sound(8_000, 1)])
    assert mirror.pending_s == 1.0
    mirror.apply(Commit(2, "b"))
    assert mirror.pending_s == 1.5
    mirror.settle(1, "words")
    assert mirror.pending_s == 0.5
    mirror.apply(Delete("b"))
    assert mirror.pending_s == 0.0


def test_an_engine_that_hears_audio_itself_gets_the_audio_again() -> None:
    mirror = mirror_of([sound(10, 64), Commit(1, "a")])
    mirror.settle(1, None)
    rebuild = mirror.rebuild()
    assert rebuild.history[0].content == (Speech((encode_pcm16(np.full(10, 0.5, np.float32)),)),)
    assert rebuild.calls == ()


def test_speech_to_be_translated_is_kept_with_its_audio() -> None:
    mirror = mirror_of([Configure(ConversationSettings(translate_into="en"))])
    for number, item_id in enumerate(("a", "b"), start=1):
        mirror.apply(sound(10, 64))
        mirror.apply(Commit(number, item_id))
    mirror.settle(1, "words")
    mirror.settle(2, "")  # nothing was said, or the engine dies of it
    audio = Speech((encode_pcm16(np.full(10, 0.5, np.float32)),))
    assert [item.content for item in mirror.items] == [(audio,), (Speech(transcript=""),)]


def test_an_outcome_of_a_commit_that_is_gone_is_ignored() -> None:
    mirror = mirror_of([sound(1, 1), Commit(1, "a"), Delete("a")])
    mirror.apply(Insert(Item("a", Role.USER, (Text("typed"),))))
    mirror.settle(1, "spoken")
    assert mirror.items == (Item("a", Role.USER, (Text("typed"),)),)


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (Commit(9, "z"), ValueError),
        (Cut(1), ValueError),
        (Insert(Item("a", Role.USER, ())), ValueError),
        (Hear.of(np.zeros(480_000, np.float32)), ClipTooLong),
    ],
)
def test_what_an_engine_would_refuse_changes_nothing(refused: Call, error: type[Exception]) -> None:
    calls: list[Call] = [Insert(Item("a", Role.USER, (Text("x"),)))]
    mirror = mirror_of(calls)
    with pytest.raises(error):
        mirror.apply(refused)
    assert rebuilt(mirror).state == directly(calls).state
    assert not mirror.is_hearing


def test_a_commit_under_an_id_that_is_taken_keeps_the_utterance() -> None:
    mirror = mirror_of([Insert(Item("a", Role.USER, ())), sound(5, 1)])
    with pytest.raises(ValueError, match="already"):
        mirror.apply(Commit(1, "a"))
    assert mirror.is_hearing
    assert mirror.pending == {}
