"""The embedded engine with its real models, in its real process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio

from agent.audio.pcm import Samples
from agent.config import Settings
from agent.engine.branches import BranchDone, BranchKind, BranchRequest, FinishReason, Limits
from agent.engine.contract import Branch, Conversation, ConversationSettings
from agent.engine.factory import small_spec
from agent.engine.small import SmallEngine, SmallOptions
from agent.engine.supervisor import EngineState, EngineSupervisor
from agent.errors import EngineError, EngineUnavailable
from agent.models.store import ModelStore
from tests.helpers.engines import read, user
from tests.helpers.speech import recording, recordings
from tests.helpers.wer import word_errors

pytestmark = [
    pytest.mark.models,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),  # one engine for all, in one loop
]

SETTINGS = Settings()
INSTRUCTIONS = ConversationSettings(SETTINGS.instructions)
SHORT = Limits(max_output_tokens=12, temperature=0.0)
ANSWER = BranchRequest(BranchKind.ANSWER, limits=SHORT)
PIECE_SAMPLES = 5120


@pytest.fixture(scope="module")
def store() -> ModelStore:
    store = ModelStore()
    for name in ("whisper-base", "smollm2-135m-instruct"):
        store.ensure(name)
    return store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(store: ModelStore) -> AsyncIterator[EngineSupervisor]:
    engine = EngineSupervisor(small_spec(SETTINGS), SETTINGS.engine_process)
    try:
        await engine.start(lambda *_: None)
        yield engine
    finally:
        await engine.stop()


def speak(conversation: Conversation, samples: Samples) -> None:
    for start in range(0, samples.size, PIECE_SAMPLES):
        conversation.hear(samples[start : start + PIECE_SAMPLES])


async def test_speech_is_heard_answered_and_remembered_over_a_crash(
    engine: EngineSupervisor,
) -> None:
    clip = recording(at_least_s=3, at_most_s=8)
    conversation = engine.open(INSTRUCTIONS)
    speak(conversation, clip.samples())
    conversation.pause()
    conversation.hear(np.zeros(4800, np.float32))
    committing = conversation.commit("u1")
    branch = conversation.branch(ANSWER)
    text, done = await read(branch)
    transcript = (await committing).transcript
    assert transcript is not None
    assert word_errors(clip.text, transcript).rate <= 0.2
    assert text
    assert 0 < done.usage.output_tokens <= 12
    assert set(done.stages_ms) == {"recognition", "prompt"}
    conversation.adopt(branch, "a1", len(text))

    conversation.insert(user("q2", "Tell me a long story."))
    follow_up = conversation.branch(
        BranchRequest(BranchKind.ANSWER, limits=Limits(500, temperature=0.0))
    )
    pieces = aiter(follow_up)
    await anext(pieces)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineUnavailable):
        async for _ in pieces:
            pass

    heard, _ = await read(conversation.branch(BranchRequest(BranchKind.TRANSCRIPT, item_id="u1")))
    speak(conversation, clip.samples())
    second = conversation.commit("u2")
    _, after = await read(conversation.branch(ANSWER))
    assert heard == transcript
    assert (await second).transcript == transcript
    assert engine.restarts == 1
    assert engine.state is EngineState.READY
    # The whole history is in the prompt again, and none of it was resident.
    assert after.usage.text_tokens > done.usage.text_tokens + 20
    assert after.usage.cached_tokens < 20


async def test_a_long_turn_loses_nothing_at_its_cuts(engine: EngineSupervisor) -> None:
    """Clips are recognised while the turn goes on, in order, each whole."""
    clips = [clip.samples() for clip in recordings() if clip.samples().size < 5 * 16_000][:4]
    conversation = engine.open(ConversationSettings(language="en"))
    for number, samples in enumerate(clips, start=1):
        speak(conversation, samples)
        if number < len(clips):
            conversation.cut(samples.size)
    committed = await conversation.commit("u1")
    assert committed.transcript == " ".join([await transcribe(engine, clip) for clip in clips])


async def transcribe(engine: EngineSupervisor, samples: Samples) -> str:
    conversation = engine.open(ConversationSettings(language="en"))
    speak(conversation, samples)
    text, _ = await read(conversation.branch(BranchRequest(BranchKind.TRANSCRIPT)))
    conversation.close()
    return text


async def test_cancelling_stops_the_model_itself(engine: EngineSupervisor) -> None:
    conversation = engine.open(INSTRUCTIONS, (user("q", "Tell me a very long story."),))
    branch = conversation.branch(
        BranchRequest(BranchKind.ANSWER, limits=Limits(400, temperature=0.0))
    )
    tokens = 0
    async for piece in branch:
        if isinstance(piece, BranchDone):
            break
        tokens += 1
        if tokens == 5:
            branch.cancel()
    assert piece == replace(piece, reason=FinishReason.CANCELLED)
    # More are under way between the two processes, on a busy machine many; not all of them.
    assert isinstance(piece, BranchDone)
    assert 5 <= piece.usage.output_tokens <= 200


async def test_the_next_turn_reads_only_what_is_new(engine: EngineSupervisor) -> None:
    conversations = [engine.open(INSTRUCTIONS) for _ in range(6)]  # more than llama.cpp's places
    for number, conversation in enumerate(conversations):
        # What all begin with is short beside the rest, as in conversations of some turns.
        text = f"{number} cats live here. " + "I like every single one of them very much. " * 8
        conversation.insert(user("q1", text))
        branch = conversation.branch(ANSWER)
        text, _ = await read(branch)
        conversation.adopt(branch, "a1", len(text))
    for conversation in conversations:
        conversation.insert(user("q2", "Why?"))
        _, done = await read(conversation.branch(ANSWER))
        assert done.usage.text_tokens - done.usage.cached_tokens < 25
        assert done.usage.cached_tokens > 80


async def test_two_answers_at_a_time_do_not_mix(engine: EngineSupervisor) -> None:
    def branch_on(question: str) -> Branch:
        return engine.open(INSTRUCTIONS, (user("q", question),)).branch(ANSWER)

    questions = ["What is the capital of France?", "How many legs has a spider?"]
    alone = [(await read(branch_on(question)))[0] for question in questions]
    branches = [branch_on(question) for question in questions]
    together = await asyncio.gather(*(read(branch) for branch in branches))
    assert all(text.strip() for text, _ in together)
    assert alone[0] != alone[1]
    assert [done.usage.output_tokens > 0 for _, done in together] == [True, True]


async def test_a_file_that_is_no_model_is_an_error_in_words(store: ModelStore) -> None:
    options = replace(
        SmallOptions(**small_spec(SETTINGS).options),  # type: ignore[arg-type]
        language_model_file=str(store.path("whisper-base") / "config.json"),
    )
    engine = SmallEngine(options)
    with pytest.raises(EngineError, match="language model cannot be loaded"):
        await engine.start(lambda *_: None)
    with pytest.raises(EngineUnavailable):
        engine.open(INSTRUCTIONS)
    await engine.stop()


async def test_stopping_leaves_no_process(store: ModelStore) -> None:
    engine = EngineSupervisor(small_spec(SETTINGS), SETTINGS.engine_process)
    await engine.start(lambda *_: None)
    pid = engine.pid
    assert pid is not None
    await engine.stop()
    assert engine.state is EngineState.STOPPED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
