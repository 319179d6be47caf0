"""The engine with the tiny checkpoint that hears: real speech in, the right digits out."""

from __future__ import annotations

import asyncio
import itertools
import json
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.engine.branches import BranchKind, BranchRequest, Limits, TextDelta
from agent.engine.contract import Branch, Conversation, ConversationSettings
from tests.helpers.gemma_engine import ManualEngine, read, record_tokens

DATA = Path(__file__).resolve().parents[3] / "data"
SPOKEN = DATA / "spoken-digits"
SAID: dict[str, dict[str, str]] = json.loads((SPOKEN / "manifest.json").read_text("utf-8"))
GREEDY = Limits(max_output_tokens=30, temperature=0)
ANSWER = BranchRequest(BranchKind.ANSWER, limits=GREEDY)
SETTINGS = ConversationSettings("Answer in one sentence.")
NUMBERS = itertools.count()


def clip(name: str) -> np.ndarray:
    with wave.open(str(SPOKEN / f"{name}.wav")) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return (data / 32768).astype(np.float32)


def digits(name: str) -> str:
    return SAID[f"{name}.wav"]["digits"]


@pytest.fixture
async def engine() -> AsyncIterator[ManualEngine]:
    engine = ManualEngine(model=str(DATA / "tiny-gemma"), max_output_tokens=30)
    await engine.start()
    yield engine
    await engine.stop()


async def say(engine: ManualEngine, conversation: Conversation, speech: np.ndarray) -> None:
    """As a microphone does: bit by bit, the engine at work between."""
    for at in range(0, len(speech), 800):
        conversation.hear(speech[at : at + 800])
        engine.round()
        await asyncio.sleep(0)


async def answer(engine: ManualEngine, conversation: Conversation) -> str:
    branch = conversation.branch(ANSWER)
    await engine.rest()
    got = await read(branch)
    assert got.error is None
    conversation.adopt(branch, f"answer {next(NUMBERS)}", len(got.text))
    await engine.settle()
    return got.text


@pytest.mark.parametrize("name", [name.removesuffix(".wav") for name in SAID])
async def test_it_says_the_digits_back_and_writes_them_down(
    engine: ManualEngine, name: str
) -> None:
    conversation = engine.open(SETTINGS)
    await engine.settle()
    await say(engine, conversation, clip(name))
    conversation.commit("u1")
    transcript = conversation.branch(
        BranchRequest(BranchKind.TRANSCRIPT, item_id="u1", limits=GREEDY)
    )
    assert await answer(engine, conversation) == f"You said {digits(name)}."
    written = await read(transcript)
    assert written.error is None
    assert written.text == digits(name)


async def test_a_pause_is_no_end_and_a_misfire_is_forgotten(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    await say(engine, conversation, clip("nine")[:9_000])
    conversation.forget()
    speech = clip("three-one-four")
    await say(engine, conversation, speech[:20_000])
    conversation.pause()
    early = conversation.branch(BranchRequest(BranchKind.ANSWER, include_open=True, limits=GREEDY))
    await engine.rest()
    assert (await read(early)).text != ""
    conversation.resume()
    await say(engine, conversation, speech[20_000:])
    conversation.commit("u1")
    assert await answer(engine, conversation) == "You said 3 1 4."


async def test_a_conversation_of_ten_turns_is_heard_to_the_end(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    for turn, name in enumerate(["three-one-four", "two-seven", "nine", "five-eight-zero-six"] * 3):
        if turn == 10:
            break
        await say(engine, conversation, clip(name))
        conversation.commit(f"u{turn}")
        assert await answer(engine, conversation) == f"You said {digits(name)}."


async def test_two_people_speak_at_once(engine: ManualEngine) -> None:
    names = ["two-seven", "five-eight-zero-six"]
    people = [engine.open(SETTINGS) for _ in names]
    speeches = [clip(name) for name in names]
    for at in range(0, max(map(len, speeches)), 1_600):
        for person, speech in zip(people, speeches, strict=True):
            person.hear(speech[at : at + 1_600])
        engine.round()
    for name, person in zip(names, people, strict=True):
        person.commit("u1")
        assert await answer(engine, person) == f"You said {digits(name)}."


async def test_the_engine_stays_silent_about_the_old_words_when_interrupted(
    engine: ManualEngine,
) -> None:
    conversation = engine.open(SETTINGS)
    await say(engine, conversation, clip("two-seven"))
    conversation.commit("u1")
    branch = conversation.branch(ANSWER)
    await say(engine, conversation, clip("three-one-four"))
    conversation.adopt(branch, "a1", len("You said"))
    conversation.commit("u2", after="a1")
    assert await answer(engine, conversation) == "You said 3 1 4."


async def translated(engine: ManualEngine, branch: Branch) -> tuple[str, str]:
    """What was said and its translation, of a branch that the engine is to work on."""
    await engine.rest()
    texts = {True: "", False: ""}
    async for piece in branch:
        if isinstance(piece, TextDelta):
            texts[piece.is_source] += piece.text
    return texts[True], texts[False]


@pytest.mark.parametrize("language", ["en", None])
async def test_it_translates_what_is_being_said_and_what_was_said(
    engine: ManualEngine, language: str | None
) -> None:
    conversation = engine.open(ConversationSettings(language=language, translate_into="es"))
    speech = clip("three-one-four")
    await say(engine, conversation, speech)
    open_one = BranchRequest(BranchKind.TRANSLATION, limits=GREEDY)
    assert await translated(engine, conversation.branch(open_one)) == ("3 1 4", "tres uno cuatro")
    conversation.commit("u1")
    whole = conversation.branch(BranchRequest(BranchKind.TRANSLATION, item_id="u1", limits=GREEDY))
    conversation.delete("u1")
    conversation.configure(ConversationSettings(language=language, translate_into="de"))
    await say(engine, conversation, clip("nine"))
    assert await translated(engine, whole) == ("3 1 4", "tres uno cuatro")
    conversation.commit("u2")
    next_one = conversation.branch(
        BranchRequest(BranchKind.TRANSLATION, item_id="u2", limits=GREEDY)
    )
    assert await translated(engine, next_one) == ("9", "neun")


async def test_who_shares_every_step_is_translated_as_if_alone(
    engine: ManualEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the token; each clip is also shifted, so that its frames are others."""
    record_tokens(monkeypatch.setattr)
    clips = [
        np.concatenate([np.zeros(shift, np.float32), clip(name)])
        for name in ("nine", "two-seven", "four-four-two-pauses")
        for shift in (0, 200)
    ]
    alone = [(await side_by_side(engine, [speech]))[0] for speech in clips]
    assert all(alone)
    assert await side_by_side(engine, clips) == alone


async def side_by_side(engine: ManualEngine, clips: list[np.ndarray]) -> list[list[int]]:
    """The tokens of each clip's translation, all heard in pieces of a frame at the same time."""
    settings = ConversationSettings(language="en", translate_into="es")
    conversations = [engine.open(settings) for _ in clips]
    for at in range(0, max(map(len, clips)), 512):
        for conversation, speech in zip(conversations, clips, strict=True):
            conversation.hear(speech[at : at + 512])
        engine.round()
        await asyncio.sleep(0)
    branches = []
    for conversation in conversations:
        conversation.commit("u1")
        branches.append(
            conversation.branch(BranchRequest(BranchKind.TRANSLATION, item_id="u1", limits=GREEDY))
        )
    await engine.rest()
    answers = [await read(branch) for branch in branches]
    for conversation in conversations:
        conversation.close()
    await engine.rest()
    return [answer.tokens for answer in answers]


async def test_nothing_is_translated_without_a_language(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    await say(engine, conversation, clip("nine"))
    branch = conversation.branch(BranchRequest(BranchKind.TRANSLATION, limits=GREEDY))
    await engine.rest()
    error = (await read(branch)).error
    assert error is not None
    assert "no language" in str(error)
