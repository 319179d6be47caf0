"""Whether the speaker has finished: the model's own probability against a plain forward."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from agent.audio.pcm import encode_pcm16
from agent.engine.branches import BranchKind, BranchRequest, FinishReason, Limits
from agent.engine.contract import ConversationSettings
from agent.engine.gemma.judging import probability_of_yes
from agent.engine.gemma.prompts import NO, YES
from agent.engine.items import Item, Role, Text
from agent.errors import EngineError, Unsupported
from tests.helpers import gemma_oracle as oracle
from tests.helpers.gemma_engine import ManualEngine, Turn, check_greedy, prompt_of, read, reference
from tests.helpers.noise import noise

torch.set_num_threads(1)
JUDGE = BranchRequest(BranchKind.TURN_END)
ANSWER = BranchRequest(BranchKind.ANSWER, limits=Limits(max_output_tokens=8, temperature=0))
SETTINGS = ConversationSettings("Be brief.")
QUESTION = (
    "The speaker is silent now. Have they finished what they want to say, so that it is your turn "
    "to speak? Answer yes if they have finished, no if they have only paused and will go on. "
    "Answer with this one word only."
)


def expected(turns: list[Turn], *, seed: int = 0) -> float:
    """What transformers makes of the whole prompt at once."""
    tokenizer, model = reference(seed).tokenizer, reference(seed).model
    prompt = prompt_of(turns, "Be brief.", seed)
    # The question stands behind the clips of the last turn.
    closing = tokenizer("<turn|>\n<|turn>model\n", add_special_tokens=False)["input_ids"]
    assert prompt.ids[-len(closing) :] == closing
    asked = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    prompt.ids = [*prompt.ids[: -len(closing)], *asked, *closing]
    logits = oracle.logits(model, prompt)[-1].double()
    first = [
        [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
        for words in (YES, NO)
    ]
    yes, no = (torch.logsumexp(logits[tokens], 0) for tokens in first)
    return float(torch.sigmoid(yes - no))


async def judge(engine: ManualEngine, conversation: object) -> float:
    branch = conversation.branch(JUDGE)
    await engine.rest()
    got = await read(branch)
    assert got.error is None
    assert got.text == ""
    assert got.done is not None
    assert got.done.reason is FinishReason.STOP
    assert got.done.usage.output_tokens == 1
    assert got.done.probability is not None
    return got.done.probability


@pytest.mark.parametrize("samples", [700, 5_121, 30_001, 64_000])
async def test_it_is_that_of_the_whole_prompt_read_afresh(engine, samples) -> None:
    conversation = engine.open(SETTINGS)
    speech = noise(samples)
    for at in range(0, samples, 3_000):
        conversation.hear(speech[at : at + 3_000])
        await engine.rest()
    probability = await judge(engine, conversation)
    assert probability == pytest.approx(expected([("user", [encode_pcm16(speech)])]), abs=1e-5)
    assert 0 < probability < 1


async def test_what_was_said_before_counts_and_only_the_question_is_new(engine) -> None:
    history = [
        Item("u1", Role.USER, (Text("Ask me for my number."),)),
        Item("a1", Role.ASSISTANT, (Text("What is it?"),)),
    ]
    conversation = engine.open(SETTINGS, history)
    speech = noise(40_000)
    conversation.hear(speech)
    await engine.settle()
    branch = conversation.branch(JUDGE)
    await engine.rest()
    done = (await read(branch)).done
    turns: list[Turn] = [("user", "Ask me for my number."), ("assistant", "What is it?")]
    heard: Turn = ("user", [encode_pcm16(speech)])
    assert done.probability == pytest.approx(expected([*turns, heard]), abs=1e-5)
    # All but the question, what closes the turn, and the speech of the last piece.
    new = done.usage.text_tokens + done.usage.audio_tokens - done.usage.cached_tokens
    closing = len("<turn|>\n<|turn>model\n")
    assert new <= len(QUESTION) + closing + 8


async def test_it_leaves_no_trace(engine) -> None:
    held = engine.shop.residency.of
    conversation = engine.open(SETTINGS)
    speech = noise(50_000)
    conversation.hear(speech[:20_001])
    await engine.rest()
    before = len(held(conversation._dialogue))
    first = await judge(engine, conversation)
    assert len(held(conversation._dialogue)) == before
    assert await judge(engine, conversation) == first
    conversation.hear(speech[20_001:])
    cancelled = conversation.branch(JUDGE)
    cancelled.cancel()
    await engine.rest()
    assert (await read(cancelled)).done.reason is FinishReason.CANCELLED
    conversation.commit("u1")
    branch = conversation.branch(ANSWER)
    await engine.rest()
    tokens = (await read(branch)).tokens
    assert tokens
    check_greedy(prompt_of([("user", [encode_pcm16(speech)])], "Be brief."), tokens)


async def test_beside_an_early_answer_both_are_as_if_alone(engine) -> None:
    conversation = engine.open(SETTINGS)
    speech = noise(30_001)
    conversation.hear(speech)
    await engine.rest()
    early = conversation.branch(
        BranchRequest(BranchKind.ANSWER, include_open=True, limits=ANSWER.limits)
    )
    probability = await judge(engine, conversation)
    turns: list[Turn] = [("user", [encode_pcm16(speech)])]
    assert probability == pytest.approx(expected(turns), abs=1e-5)
    tokens = (await read(early)).tokens
    assert tokens
    check_greedy(prompt_of(turns, "Be brief."), tokens)


async def test_nothing_is_judged_while_nobody_speaks(engine) -> None:
    branch = engine.open(SETTINGS).branch(JUDGE)
    await engine.rest()
    error = (await read(branch)).error
    assert isinstance(error, EngineError)
    assert "no open utterance" in str(error)


async def test_a_tokenizer_that_does_not_tell_yes_from_no(engine, monkeypatch) -> None:
    monkeypatch.setattr(engine.shop.renderer, "first_tokens", lambda words: (7,))
    conversation = engine.open(SETTINGS)
    conversation.hear(noise(9_000))
    branch = conversation.branch(JUDGE)
    await engine.rest()
    assert isinstance((await read(branch)).error, Unsupported)
    # The conversation goes on.
    monkeypatch.undo()
    assert 0 < await judge(engine, conversation) < 1


def test_the_share_of_yes() -> None:
    assert probability_of_yes([0.0], [0.0]) == 0.5
    assert probability_of_yes([1.0, 2.0], [-1.0]) == pytest.approx(
        (math.e + math.e**2) / (math.e + math.e**2 + 1 / math.e)
    )
    assert probability_of_yes([1e4], [-1e4]) == 1.0
    assert probability_of_yes([-1e4], [1e4]) == 0.0
    assert not np.isnan(probability_of_yes([-1e30], [1e30]))
