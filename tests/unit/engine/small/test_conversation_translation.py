"""How the embedded engine translates what was said."""

from __future__ import annotations

import asyncio

import pytest

from agent.audio.pcm import encode_pcm16
from agent.engine.branches import (
    BranchDone,
    BranchKind,
    BranchRequest,
)
from agent.engine.contract import Branch, ConversationSettings
from agent.engine.items import Item, Role, Speech
from agent.errors import (
    EngineError,
    Unsupported,
)
from tests.helpers.patience import PATIENCE_S
from tests.helpers.small_engine import (
    FakeEar,
    FakeModel,
    engine,
    word,
)

TRANSLATION = BranchRequest(BranchKind.TRANSLATION, item_id="u1")


async def read_both(branch: Branch) -> tuple[str, str]:
    """What was said and its translation."""
    texts = {True: "", False: ""}
    async with asyncio.timeout(PATIENCE_S):
        async for piece in branch:
            if isinstance(piece, BranchDone):
                return texts[True], texts[False]
            texts[piece.is_source] += piece.text
    raise AssertionError("a branch ended without BranchDone")


async def test_what_was_said_is_translated_clip_by_clip() -> None:
    async with engine(FakeEar(), FakeModel()) as opened:
        one = opened()
        one.configure(ConversationSettings(translate_into="en-US"))
        one.hear(word(1))
        one.cut(1600)
        one.hear(word(2))
        committing = one.commit("u1")
        assert await read_both(one.branch(TRANSLATION)) == ("1 2", "1 in English 2 in English")
        assert (await committing).transcript == "1 2"
        one.delete("u1")
        one.hear(word(3))
        open_one = BranchRequest(BranchKind.TRANSLATION)
        assert await read_both(one.branch(open_one)) == ("3", "3 in English")


async def test_speech_of_an_earlier_process_is_translated_again() -> None:
    clip = Item("u1", Role.USER, (Speech((encode_pcm16(word(7)),)),))
    silent = Item("u2", Role.USER, (Speech(transcript=""),))
    known = Item("u3", Role.USER, (Speech(transcript="words"),))
    async with engine(FakeEar(), FakeModel()) as opened:
        one = opened()
        one.configure(ConversationSettings(translate_into="en"))
        for item in (clip, silent, known):
            one.insert(item)
        assert await read_both(one.branch(TRANSLATION)) == ("7", "7 in English")
        nothing = BranchRequest(BranchKind.TRANSLATION, item_id="u2")
        assert await read_both(one.branch(nothing)) == ("", "")
        with pytest.raises(EngineError, match="only the words are left"):
            one.branch(BranchRequest(BranchKind.TRANSLATION, item_id="u3"))


@pytest.mark.parametrize("target", [None, "es"])
async def test_other_languages_than_english_are_refused(target: str | None) -> None:
    async with engine(FakeEar(), FakeModel()) as opened:
        one = opened()
        one.configure(ConversationSettings(translate_into=target))
        one.hear(word(1))
        one.commit("u1")
        with pytest.raises(Unsupported, match="English only"):
            one.branch(TRANSLATION)


async def test_speech_heard_before_it_was_to_be_translated_has_no_translation() -> None:
    async with engine(FakeEar(), FakeModel()) as opened:
        one = opened()
        one.hear(word(1))
        one.commit("u1")
        one.configure(ConversationSettings(translate_into="en"))
        with pytest.raises(EngineError, match="before it was to be translated"):
            await read_both(one.branch(TRANSLATION))
