"""The embedded engine's conversation with stand-ins for both models."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from agent.audio.pcm import encode_pcm16
from agent.engine.branches import (
    BranchKind,
    BranchRequest,
    FinishReason,
)
from agent.engine.contract import ConversationSettings
from agent.engine.items import Item, Role, Speech
from agent.engine.small.recogniser import Heard, Segment
from agent.errors import (
    ClipTooLong,
    EngineError,
    EngineUnavailable,
    Unsupported,
)
from tests.helpers.engines import user
from tests.helpers.patience import PATIENCE_S
from tests.helpers.small_engine import (
    ANSWER,
    SILENCE,
    FakeEar,
    FakeModel,
    engine,
    read,
    word,
)


async def test_a_spoken_turn_is_understood_and_answered() -> None:
    ear, model = FakeEar(), FakeModel()
    async with engine(ear, model) as opened:
        one = opened()
        one.hear(word(7))
        committing = one.commit("u1")
        branch = one.branch(ANSWER)
        text, done = await read(branch)
        committed = await committing
        one.adopt(branch, "a1", 1)
        one.insert(user("q2", "and now"))
        await read(one.branch(ANSWER))
    assert (text, committed.transcript) == ("7 ", "7")
    assert (committed.usage.audio_tokens, committed.usage.output_tokens) == (160, 1)
    assert (done.reason, done.usage.text_tokens) == (FinishReason.STOP, len("Be brief.7"))
    assert (done.usage.cached_tokens, done.usage.output_tokens) == (1, 1)
    assert set(done.stages_ms) == {"recognition", "prompt"}
    assert [message["content"] for message in model.prompts[1]] == [
        "Be brief.",
        "7",
        "7",
        "and now",
    ]


async def test_work_begun_in_a_pause_is_used_by_the_commit() -> None:
    ear = FakeEar()
    async with engine(ear, FakeModel()) as opened:
        one = opened()
        one.hear(word(1))
        one.pause()
        one.pause()
        one.hear(SILENCE)
        assert (await one.commit("u1")).transcript == "1"
    assert ear.heard == [("1", 1600, None)]


async def test_speech_after_a_pause_is_recognised_with_what_came_before() -> None:
    ear = FakeEar(held=True)
    async with engine(ear, FakeModel()) as opened:
        one = opened()
        one.hear(word(1))
        one.pause()
        assert await asyncio.to_thread(ear.begun.acquire, timeout=PATIENCE_S)
        one.hear(SILENCE)
        one.resume()
        one.hear(word(2))
        committing = one.commit("u1")
        assert one.backlog_s == 0.25
        ear.allow(2)
        assert (await committing).transcript == "1"
        assert one.backlog_s == 0
    assert [size for _, size, _ in ear.heard] == [1600, 4000]


async def test_a_dropped_early_recognition_that_waits_is_never_run() -> None:
    ear = FakeEar(held=True)
    async with engine(ear, FakeModel()) as opened:
        busy, one = opened(), opened()
        busy.hear(word(9))
        busy.commit("u")
        assert await asyncio.to_thread(ear.begun.acquire, timeout=PATIENCE_S)
        one.hear(word(1))
        one.pause()
        one.resume()
        one.pause()
        one.forget()
        one.hear(word(2))
        ear.allow(2)
        assert (await one.commit("u1")).transcript == "2"
    assert [heard[0] for heard in ear.heard] == ["9", "2"]


async def test_clips_are_recognised_as_soon_as_they_are_cut() -> None:
    ear = FakeEar(held=True)
    async with engine(ear, FakeModel()) as opened:
        one = opened()
        one.hear(word(1))
        one.hear(word(2))
        one.cut(1600)
        assert await asyncio.to_thread(ear.begun.acquire, timeout=PATIENCE_S)
        ear.allow(2)
        assert (await one.commit("u1")).transcript == "1 2"
    assert len(ear.heard) == 2


async def test_a_cut_in_a_pause_takes_what_the_pause_began() -> None:
    ear = FakeEar()
    async with engine(ear, FakeModel()) as opened:
        one = opened()
        one.hear(word(1))
        one.pause()
        one.hear(SILENCE)
        one.cut(2000)
        one.hear(SILENCE)
        assert (await one.commit("u1")).transcript == "1"  # the rest is silence
        one.hear(word(2))
        one.hear(word(3))
        one.pause()
        one.cut(1600)  # before the pause
        assert (await one.commit("u2")).transcript == "2 3"
    assert [heard[:2] for heard in ear.heard if heard[1] == 1600] == [
        ("1", 1600),
        ("2", 1600),
        ("3", 1600),
    ]


async def test_an_answer_asked_for_while_somebody_speaks_sees_the_committed_items() -> None:
    async with engine(FakeEar(), FakeModel()) as opened:
        one = opened((user("q", "hello"),))
        one.hear(word(5))
        plain, _ = await read(one.branch(ANSWER))
        early, _ = await read(one.branch(BranchRequest(BranchKind.ANSWER, include_open=True)))
    assert (plain, early) == ("hello ", "5 ")


async def test_an_early_answer_fails_when_its_speaker_goes_on() -> None:
    ear = FakeEar(held=True)
    async with engine(ear, FakeModel()) as opened:
        busy, one = opened(), opened()
        busy.hear(word(9))
        busy.commit("u")
        one.hear(word(5))
        one.pause()
        early = one.branch(BranchRequest(BranchKind.ANSWER, include_open=True))
        one.resume()
        with pytest.raises(EngineUnavailable, match="dropped"):
            await read(early)


async def test_an_early_answer_is_adopted_behind_the_item_committed_after_it() -> None:
    ear, model = FakeEar(), FakeModel()
    async with engine(ear, model) as opened:
        one = opened()
        one.hear(word(5))
        one.pause()
        early = one.branch(BranchRequest(BranchKind.ANSWER, include_open=True))
        text, done = await read(early)
        one.hear(SILENCE)
        await one.commit("u1")
        one.adopt(early, "a1", len(text), "u1")
        one.insert(user("q2", "and now"))
        await read(one.branch(ANSWER))
    assert done.usage.text_tokens == len("Be brief.5")
    assert [message["content"] for message in model.prompts[1]] == [
        "Be brief.",
        "5",
        "5 ",
        "and now",
    ]
    assert len(ear.heard) == 1  # the pause's recognition served both


async def test_transcripts_of_items_and_of_the_open_utterance() -> None:
    def transcript(item_id: str | None) -> BranchRequest:
        return BranchRequest(BranchKind.TRANSCRIPT, item_id=item_id)

    async with engine(FakeEar(), FakeModel()) as opened:
        known = Item("k", Role.USER, (Speech(transcript="known words"),))
        audio = Item("r", Role.USER, (Speech((encode_pcm16(word(3)), encode_pcm16(word(4)))),))
        one = opened((known, audio, user("typed", "x")))
        one.hear(word(6))
        texts = [(await read(one.branch(transcript(name))))[0] for name in ("k", "r", None)]
        one.commit("u1")
        again, done = await read(one.branch(transcript("u1")))
        for nothing in ("typed", "gone", None):
            with pytest.raises(EngineError):
                one.branch(transcript(nothing))
    assert texts == ["known words", "3 4", "6"]
    assert (again, done.usage.audio_tokens) == ("6", 160)


async def test_a_caption_is_a_draft_that_waits_for_all_else_and_goes_with_its_branch() -> None:
    caption = BranchRequest(BranchKind.TRANSCRIPT)
    ear = FakeEar(held=True)
    async with engine(ear, FakeModel()) as opened:
        busy, one = opened(), opened()
        busy.hear(word(9))
        committing = busy.commit("u1")
        assert await asyncio.to_thread(ear.begun.acquire, timeout=PATIENCE_S)
        one.hear(word(1))
        one.cut(1600)
        one.hear(word(2))
        dropped, kept = one.branch(caption), one.branch(caption)
        busy.hear(word(8))
        second = busy.commit("u2")
        await asyncio.sleep(0)
        dropped.cancel()
        ear.allow(4)
        text, _ = await read(kept)
        assert (await read(dropped))[1].reason is FinishReason.CANCELLED
        await asyncio.gather(committing, second)
    assert text == "1 2"
    assert [heard[0] for heard in ear.heard] == ["9", "8", "1", "2"]
    assert ear.drafts == [False, False, False, True]


class SentenceEar(FakeEar):
    """Hears a sentence in every second of a clip: its number and how it is spelled."""

    def hear(self, samples, language=None, expected=None, *, draft=False, translate=False):
        super().hear(samples, draft=draft, translate=translate)
        first = round(float(samples[0]) * 1000)
        count = -(-samples.size // 16_000)
        segments = tuple(
            Segment(f"{first + number}.", min(samples.size, (number + 1) * 16_000))
            for number in range(count)
        )
        return Heard(" ".join(one.text for one in segments), 1, 1, "xx", segments=segments)


async def test_captions_do_not_hear_again_what_is_settled() -> None:
    ear = SentenceEar()
    caption = BranchRequest(BranchKind.TRANSCRIPT)
    async with engine(ear, FakeModel()) as opened:
        one = opened()
        for second in range(1, 8):
            one.hear(word(second, 16_000))
        texts = []
        for second in range(8, 11):
            texts.append((await read(one.branch(caption)))[0])
            one.hear(word(second, 16_000))
        one.cut(16_000)
        texts.append((await read(one.branch(caption)))[0])
        committed = await one.commit("u1")
    spoken = [" ".join(f"{number}." for number in range(1, last)) for last in (8, 9, 10, 11)]
    assert texts == spoken
    assert committed.transcript == spoken[-1]
    # Whole twice, then from what both wrote alike; after a cut the rest of it alone.
    assert [heard[1] // 16_000 for heard in ear.heard] == [7, 8, 2, 1, 9, 9]


async def test_a_caption_in_a_pause_takes_what_the_pause_began() -> None:
    ear = FakeEar()
    async with engine(ear, FakeModel()) as opened:
        one = opened()
        one.hear(word(1))
        one.pause()
        text, _ = await read(one.branch(BranchRequest(BranchKind.TRANSCRIPT)))
        assert (text, (await one.commit("u1")).transcript) == ("1", "1")
    assert ear.drafts == [False]


async def test_nothing_heard_is_an_empty_transcript_and_inaudible_to_the_model() -> None:
    model = FakeModel()
    async with engine(FakeEar(), model) as opened:
        one = opened()
        one.hear(word(1))
        one.cut(1600)
        one.pause()
        one.forget()
        one.insert(Item("u1", Role.USER, (Speech(transcript=""),)))
        text, done = await read(one.branch(BranchRequest(BranchKind.TRANSCRIPT, item_id="u1")))
        await read(one.branch(ANSWER))
    assert (text, done.reason) == ("", FinishReason.STOP)
    assert model.prompts[0][-1]["content"] == "(inaudible)"


@pytest.mark.parametrize(("number", "words"), [(13, "unlucky"), (14, "RuntimeError")])
async def test_speech_that_cannot_be_recognised_fails_its_own_turn(number: int, words: str) -> None:
    model = FakeModel()
    async with engine(FakeEar(), model) as opened:
        one = opened()
        one.hear(word(number))
        committing = one.commit("u1")
        with pytest.raises(EngineError, match=words):
            await read(one.branch(ANSWER))
        with pytest.raises(EngineError, match=words):
            await committing
        one.insert(user("q", "next"))
        await read(one.branch(ANSWER))
    assert [message["content"] for message in model.prompts[0]][1:] == ["(inaudible)", "next"]


async def test_items_can_be_changed_and_taken_away() -> None:
    model = FakeModel()
    async with engine(FakeEar(), model) as opened:
        one = opened((user("a", "x"),))
        branch = one.branch(ANSWER)
        await read(branch)
        one.adopt(branch, "b", 0)
        one.adopt(branch, "c", 1, "a")
        one.insert(user("z", "first"), head=True)
        one.truncate("z", 2)
        one.hear(word(1))
        one.commit("u1", after="z")
        one.delete("u1")
        one.configure(ConversationSettings("New."))
        await read(one.branch(ANSWER))
    assert [message["content"] for message in model.prompts[-1]] == ["New.", "fi", "x", "x"]


async def test_what_the_contract_forbids_is_refused() -> None:
    async with engine(FakeEar(), FakeModel()) as opened:
        one = opened()
        one.hear(np.empty(0, np.float32))
        for act in (lambda: one.cut(1), lambda: one.commit("u1")):
            with pytest.raises(ValueError, match="no open"):
                act()
        with pytest.raises(ClipTooLong):
            one.hear(np.zeros(480_000, np.float32))
        with pytest.raises(TypeError):
            one.adopt(None, "a", 1)  # type: ignore[arg-type]
        for harmless in (one.pause, one.resume, one.forget):
            harmless()


async def test_closing_ends_what_runs() -> None:
    model = FakeModel(held=True)
    async with engine(FakeEar(), model) as opened:
        one = opened((user("a", "x y"),))
        branch = one.branch(ANSWER)
        assert await asyncio.to_thread(model.begun.acquire, timeout=PATIENCE_S)
        one.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await read(branch)


async def test_it_does_not_say_whether_a_speaker_has_finished() -> None:
    async with engine(FakeEar(), FakeModel()) as opened:
        one = opened()
        one.hear(word(1))
        with pytest.raises(Unsupported, match="whether a speaker has finished"):
            one.branch(BranchRequest(BranchKind.TURN_END))
