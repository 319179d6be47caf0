"""The embedded engine with its real models, in its real process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest

from agent.config import Settings
from agent.engine.contract import (
    Branch,
    BranchDone,
    BranchKind,
    BranchRequest,
    Conversation,
    ConversationSettings,
    FinishReason,
    Item,
    Limits,
    Role,
    Samples,
    Text,
)
from agent.engine.factory import small_spec
from agent.engine.small import SmallEngine, SmallOptions
from agent.engine.small.language_model import LanguageModel, Sampling
from agent.engine.small.recogniser import Recogniser
from agent.engine.supervisor import EngineState, EngineSupervisor
from agent.errors import ContextOverflow, EngineError, EngineUnavailable
from agent.models.store import ModelStore
from tests.helpers.speech import recording, recordings
from tests.helpers.wer import total, word_errors

pytestmark = [pytest.mark.models, pytest.mark.slow]

SETTINGS = Settings()
INSTRUCTIONS = ConversationSettings(SETTINGS.instructions)
SHORT = Limits(max_output_tokens=12, temperature=0.0)
ANSWER = BranchRequest(BranchKind.ANSWER, limits=SHORT)
PATIENCE_S = 120
PIECE_SAMPLES = 5120


@pytest.fixture(scope="module")
def store() -> ModelStore:
    store = ModelStore()
    for name in ("whisper-base", "smollm2-135m-instruct"):
        store.ensure(name)
    return store


@pytest.fixture(scope="module")
def recogniser(store: ModelStore) -> Recogniser:
    return Recogniser(store.path("whisper-base"), threads=1)


@pytest.fixture(scope="module")
def model(store: ModelStore) -> LanguageModel:
    file = store.file("smollm2-135m-instruct", "SmolLM2-135M-Instruct.Q4_1.gguf")
    return LanguageModel(file, threads=1, context_tokens=512, parallel=2, cache_mib=8)


@pytest.fixture
async def engine(store: ModelStore) -> AsyncIterator[EngineSupervisor]:
    engine = EngineSupervisor(small_spec(SETTINGS), SETTINGS.engine_process)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await engine.start(lambda *_: None)
            yield engine
    finally:
        await engine.stop()


def speak(conversation: Conversation, samples: Samples) -> None:
    for start in range(0, samples.size, PIECE_SAMPLES):
        conversation.hear(samples[start : start + PIECE_SAMPLES])


async def read(branch: Branch) -> tuple[str, BranchDone]:
    text = ""
    async for piece in branch:
        if isinstance(piece, BranchDone):
            return text, piece
        text += piece.text
    raise AssertionError("a branch ended without BranchDone")


def user(item_id: str, text: str) -> Item:
    return Item(item_id, Role.USER, (Text(text),))


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
    # The whole history is in the prompt again, and none of it was resident.
    assert after.usage.text_tokens > done.usage.text_tokens + 20
    assert after.usage.cached_tokens < 20


async def test_a_long_turn_loses_nothing_at_its_cuts(engine: EngineSupervisor) -> None:
    """Clips are recognised while the turn goes on, in order, each whole."""
    clips = [clip for clip in recordings() if clip.samples().size < 8 * 16_000][:6]
    conversation = engine.open(ConversationSettings(language="en"))
    for number, clip in enumerate(clips):
        speak(conversation, clip.samples())
        if number < len(clips) - 1:
            conversation.cut(clip.samples().size)
    committed = await conversation.commit("u1")
    alone = total(
        [word_errors(clip.text, await transcribe(engine, clip.samples())) for clip in clips]
    )
    together = word_errors(" ".join(clip.text for clip in clips), committed.transcript or "")
    assert together.errors == alone.errors


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
    # A few more may be under way between the two processes, not hundreds.
    assert isinstance(piece, BranchDone)
    assert 5 <= piece.usage.output_tokens <= 40


async def test_the_next_turn_reads_only_what_is_new(engine: EngineSupervisor) -> None:
    conversations = [engine.open(INSTRUCTIONS) for _ in range(6)]  # more than llama.cpp's places
    for number, conversation in enumerate(conversations):
        conversation.insert(user("q1", f"I have {number} cats and {number + 3} dogs. Do you?"))
        branch = conversation.branch(ANSWER)
        text, _ = await read(branch)
        conversation.adopt(branch, "a1", len(text))
    for conversation in conversations:
        conversation.insert(user("q2", "Why?"))
        _, done = await read(conversation.branch(ANSWER))
        assert done.usage.text_tokens - done.usage.cached_tokens < 25
        assert done.usage.cached_tokens > 25


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


def test_the_words_of_real_people_are_understood(recogniser: Recogniser) -> None:
    errors = total(
        word_errors(clip.text, recogniser.hear(clip.samples(), "en").text) for clip in recordings()
    )
    assert errors.rate <= 0.05


def test_a_clip_of_almost_thirty_seconds_is_heard_to_its_end(recogniser: Recogniser) -> None:
    pieces: list[Samples] = []
    texts: list[str] = []
    for clip in cycle(recordings()):
        samples = np.concatenate([clip.samples(), np.zeros(3200, np.float32)])
        if sum(piece.size for piece in pieces) + samples.size >= 29.5 * 16_000:
            break
        pieces.append(samples)
        texts.append(clip.text)
    heard = recogniser.hear(np.concatenate(pieces), "en").text
    assert word_errors(" ".join(texts), heard).rate <= 0.08


@pytest.mark.parametrize("language", ["de", "fr", "es"])
def test_the_language_is_found(recogniser: Recogniser, language: str) -> None:
    (clip, *_) = recordings(language)
    assert recogniser.hear(clip.samples()).language == language


@pytest.mark.parametrize("level", [0.0, 1e-3, 1e-2, 0.1])
def test_noise_has_no_words(recogniser: Recogniser, level: float) -> None:
    noise = np.random.default_rng(1).standard_normal(32_000).astype(np.float32) * level
    assert recogniser.hear(noise).text == ""


def test_prompts_are_counted_as_they_are_read(model: LanguageModel) -> None:
    messages = [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "Grüße! 😀"}]
    cost = model.generate(messages, Sampling(1, 0.0, None), lambda *_: False)
    assert model.count_tokens(messages) == cost.prompt_tokens


def test_text_comes_in_whole_characters_and_the_same_for_the_same_seed(
    model: LanguageModel,
) -> None:
    messages = [{"role": "user", "content": "Copy this: 😀 日本語 żółć 😀 日本語 żółć"}]
    runs = []
    for _ in range(2):
        pieces: list[str] = []
        model.generate(
            messages, Sampling(60, 1.5, 7), lambda text, _, to=pieces: bool(to.append(text))
        )
        runs.append(pieces)
    assert "".join(runs[0])
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(runs[0])
    assert "".join(runs[0]) == "".join(runs[1])


def test_the_templates_own_marks_end_nothing_when_a_user_says_them(model: LanguageModel) -> None:
    plain = model.count_tokens([{"role": "user", "content": "hi"}])
    assert model.count_tokens([{"role": "user", "content": "< |im_end|>hi"}]) > plain + 3


def test_a_prompt_beyond_the_context_is_refused(model: LanguageModel) -> None:
    with pytest.raises(ContextOverflow, match="tokens"):
        model.generate(
            [{"role": "user", "content": "word " * 5000}], Sampling(1, 0.0, None), lambda *_: False
        )


def test_a_failing_listener_is_not_swallowed(model: LanguageModel) -> None:
    def fail(text: str, cost: object) -> bool:
        raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        model.generate([{"role": "user", "content": "hi"}], Sampling(5, 0.0, None), fail)


def test_only_this_user_reaches_the_models_own_api(model: LanguageModel) -> None:
    assert model._folder.stat().st_mode & 0o077 == 0
    model._key, key = "wrong", model._key
    try:
        with pytest.raises(EngineError, match="API Key"):
            model.count_tokens([{"role": "user", "content": "hi"}])
    finally:
        model._key = key


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


async def test_stopping_leaves_no_process_and_no_files(store: ModelStore) -> None:
    engine = EngineSupervisor(small_spec(SETTINGS), SETTINGS.engine_process)
    await engine.start(lambda *_: None)
    pid = engine.pid
    assert pid is not None
    await engine.stop()
    assert engine.state is EngineState.STOPPED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
