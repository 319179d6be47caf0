"""The engine through its contract against transformers' `generate` over the same conversation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.audio.pcm import encode_pcm16  # noqa: E402
from agent.engine.branches import BranchKind, BranchRequest, FinishReason, Limits  # noqa: E402
from agent.engine.contract import Conversation, ConversationSettings, Truncation  # noqa: E402
from agent.engine.items import Item, Role, Speech, Text  # noqa: E402
from agent.errors import ContextOverflow  # noqa: E402
from tests.helpers.gemma_engine import Answer, ManualEngine, Turn, check_greedy, prompt_of, read  # noqa: E402
from tests.helpers.noise import noise  # noqa: E402

pytestmark = pytest.mark.usefixtures("recorded_tokens")
torch.set_num_threads(1)
GREEDY = Limits(max_output_tokens=10, temperature=0)
ANSWER = BranchRequest(BranchKind.ANSWER, limits=GREEDY)
SETTINGS = ConversationSettings("Be brief.")


def say(conversation: Conversation, samples: np.ndarray, step: int = 3_000) -> None:
    for at in range(0, len(samples), step):
        conversation.hear(samples[at : at + step])


def pcm(samples: np.ndarray) -> bytes:
    return encode_pcm16(samples)


async def answer(engine: ManualEngine, conversation: Conversation) -> Answer:
    branch = conversation.branch(ANSWER)
    await engine.rest()
    got = await read(branch)
    assert got.error is None
    assert got.done is not None
    return got


def check(got: Answer, turns: list[Turn], instructions: str = "Be brief.") -> None:
    assert got.tokens
    check_greedy(prompt_of(turns, instructions), got.tokens)


async def test_one_turn_of_speech(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    speech = noise(40_000)
    for at in range(0, 40_000, 3_000):
        conversation.hear(speech[at : at + 3_000])
        await engine.rest()
    committed = conversation.commit("u1")
    got = await answer(engine, conversation)
    check(got, [("user", [pcm(speech)])])
    assert (await committed).usage.audio_tokens == 63
    assert got.done is not None
    assert got.done.usage.audio_tokens == 63
    # Only the last piece and what closes the turn were not resident at its end.
    assert got.done.usage.cached_tokens >= got.done.usage.text_tokens + 63 - 18
    assert set(got.done.stages_ms) == {"queue", "prefill", "first_step"}


@pytest.mark.parametrize("tokens", [1, 8, 24])
@pytest.mark.parametrize("off", [-1, 0, 1])
async def test_clips_at_the_edge_of_a_token(engine: ManualEngine, tokens: int, off: int) -> None:
    conversation = engine.open(SETTINGS)
    speech = noise(640 * tokens + off)
    say(conversation, speech)
    conversation.commit("u1")
    check(await answer(engine, conversation), [("user", [pcm(speech)])])


async def test_turns_with_answers_that_were_cut_and_text(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    turns: list[Turn] = []
    for turn in range(4):
        speech = noise(9_000 + 4_321 * turn, turn)
        say(conversation, speech)
        await engine.settle()
        conversation.commit(f"u{turn}")
        turns.append(("user", [pcm(speech)]))
        branch = conversation.branch(ANSWER)
        await engine.rest()
        got = await read(branch)
        check(got, turns)
        conversation.adopt(branch, f"a{turn}", 6)
        turns.append(("assistant", got.text[:6]))
        await engine.settle()
    conversation.insert(Item("t", Role.USER, (Text("And in words?"),)))
    turns.append(("user", "And in words?"))
    check(await answer(engine, conversation), turns)


async def test_an_item_of_four_clips(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    speech = noise(60_000)
    conversation.hear(speech[:20_000])
    await engine.rest()
    conversation.cut(11_111)  # what is heard behind it is the next clip's, and is heard again
    await engine.rest()
    conversation.hear(speech[20_000:30_000])
    await engine.rest()
    conversation.cut(18_889)  # all of it
    conversation.hear(speech[30_000:50_000])
    conversation.cut(5_000)
    await engine.rest()
    conversation.hear(speech[50_000:])
    conversation.commit("u1")
    borders = [0, 11_111, 30_000, 35_000, 60_000]
    clips = [pcm(speech[a:b]) for a, b in pairwise(borders)]
    check(await answer(engine, conversation), [("user", clips)])


async def test_forgotten_speech_leaves_no_trace(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    speech = noise(30_000)
    await engine.settle()
    for lost in (5_000, 80_000):
        say(conversation, noise(lost, 7))
        await engine.rest()
        conversation.forget()
        await engine.rest()
    say(conversation, speech)
    await engine.rest()
    conversation.commit("u1")
    check(await answer(engine, conversation), [("user", [pcm(speech)])])


async def test_branches_at_once_do_not_disturb_the_conversation(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    speech = noise(50_000)
    conversation.hear(speech[:30_001])
    await engine.rest()
    early = conversation.branch(BranchRequest(BranchKind.ANSWER, include_open=True, limits=GREEDY))
    caption = conversation.branch(BranchRequest(BranchKind.TRANSCRIPT, limits=GREEDY))
    committed_only = conversation.branch(ANSWER)
    own = conversation.branch(
        BranchRequest(BranchKind.ANSWER, instructions="Rhyme.", include_open=True, limits=GREEDY)
    )
    conversation.hear(speech[30_001:])  # while they are read
    await engine.rest()
    conversation.commit("u1")
    final = conversation.branch(ANSWER)
    transcript = conversation.branch(
        BranchRequest(BranchKind.TRANSCRIPT, item_id="u1", limits=GREEDY)
    )
    await engine.rest()
    check(await read(early), [("user", [pcm(speech[:30_001])])])
    check(await read(own), [("user", [pcm(speech[:30_001])])], "Rhyme.")
    check(await read(committed_only), [])
    check(await read(final), [("user", [pcm(speech)])])
    captioned, transcribed = await read(caption), await read(transcript)
    assert captioned.error is transcribed.error is None
    assert captioned.done is not None
    assert transcribed.done is not None
    assert captioned.done.usage.audio_tokens == 47
    assert transcribed.done.usage.audio_tokens == 78


@pytest.mark.parametrize("done_before", [True, False])
async def test_an_early_answer_is_adopted_behind_the_item_committed_after_it(
    engine: ManualEngine, done_before: bool
) -> None:
    """It answers what was heard before the pause; the item has the silence after it as well."""
    conversation = engine.open(SETTINGS)
    speech, silence = noise(30_001), np.zeros(5_120, np.float32)
    say(conversation, speech)
    await engine.rest()
    early = conversation.branch(BranchRequest(BranchKind.ANSWER, include_open=True, limits=GREEDY))
    if done_before:
        await engine.rest()
    conversation.hear(silence)
    committed = conversation.commit("u1")
    await engine.rest()
    got = await read(early)
    check(got, [("user", [pcm(speech)])])
    assert got.done is not None
    assert got.done.usage.audio_tokens == 47
    conversation.adopt(early, "a1", 6, "u1")
    await engine.settle()
    conversation.insert(Item("t", Role.USER, (Text("And then?"),)))
    heard = np.concatenate([speech, silence])
    turns: list[Turn] = [("user", [pcm(heard)]), ("assistant", got.text[:6])]
    check(await answer(engine, conversation), [*turns, ("user", "And then?")])
    assert (await committed).usage.audio_tokens == 55


async def test_speech_during_an_answer_is_placed_behind_what_was_received(
    engine: ManualEngine,
) -> None:
    conversation = engine.open(SETTINGS)
    first, second = noise(20_000), noise(33_333, 1)
    say(conversation, first)
    conversation.commit("u1")
    branch = conversation.branch(
        BranchRequest(BranchKind.ANSWER, limits=Limits(max_output_tokens=200, temperature=0))
    )
    for at in range(0, 20_000, 1_000):
        engine.round()
        conversation.hear(second[at : at + 1_000])
        await asyncio.sleep(0)
    conversation.adopt(branch, "a1", 5)
    say(conversation, second[20_000:])
    await engine.rest()
    conversation.commit("u2", after="a1")
    said = (await read(branch)).text[:5]
    turns: list[Turn] = [("user", [pcm(first)]), ("assistant", said), ("user", [pcm(second)])]
    check(await answer(engine, conversation), turns)


async def test_cancelling_takes_effect_within_a_step(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    conversation.insert(Item("t", Role.USER, (Text("Count."),)))
    branch = conversation.branch(
        BranchRequest(BranchKind.ANSWER, limits=Limits(max_output_tokens=500, temperature=0))
    )
    for _ in range(12):
        engine.round()
    branch.cancel()
    engine.round()
    assert engine.round() is False
    got = await read(branch)
    assert got.done is not None
    assert got.done.reason is FinishReason.CANCELLED
    assert 0 < got.done.usage.output_tokens <= 12
    # What is known while it goes on is the same but for tokens that were no text yet.
    assert got.spent is not None
    assert 0 < got.spent.output_tokens <= got.done.usage.output_tokens
    assert replace(got.spent, output_tokens=got.done.usage.output_tokens) == got.done.usage


async def test_items_are_inserted_truncated_and_deleted(engine: ManualEngine) -> None:
    speech = noise(15_000)
    history = [
        Item("u1", Role.USER, (Speech((pcm(speech),)),)),
        Item("a1", Role.ASSISTANT, (Text("I do not think so."),)),
        Item("u2", Role.USER, (Speech(transcript="Why not?"),)),
    ]
    conversation = engine.open(SETTINGS, history)
    await engine.settle()
    first = await answer(engine, conversation)
    turns: list[Turn] = [("user", [pcm(speech)]), ("assistant", "I do not think so.")]
    check(first, [*turns, ("user", "Why not?")])
    conversation.truncate("a1", 4)
    conversation.delete("u2")
    conversation.insert(Item("s", Role.USER, (Text("Hello."),)), head=True)
    conversation.insert(Item("u3", Role.USER, (Text("Go on."),)), after="a1")
    turns = [("user", "Hello."), ("user", [pcm(speech)]), ("assistant", "I do"), ("user", "Go on.")]
    check(await answer(engine, conversation), turns)
    conversation.delete("u1")
    del turns[1]
    check(await answer(engine, conversation), turns)


async def test_a_rebuilt_conversation_goes_on_with_the_same_tokens(engine: ManualEngine) -> None:
    speech = noise(70_000)
    live = engine.open(SETTINGS)
    say(live, speech)
    await engine.rest()
    live.commit("u1")
    heard = await answer(engine, live)
    history = [Item("u1", Role.USER, (Speech((pcm(speech),), "words"),))]
    rebuilt = await answer(engine, engine.open(SETTINGS, history))
    assert rebuilt.tokens == heard.tokens
    assert rebuilt.done is not None
    assert rebuilt.done.usage.audio_tokens == 110


async def test_eight_interleaved_conversations(engine: ManualEngine) -> None:
    lengths = [9_000, 5_121, 700, 20_480, 31_000, 161, 12_345, 5_120]
    conversations = [engine.open(ConversationSettings(f"You are {n}.")) for n in range(8)]
    turns: list[list[Turn]] = [[] for _ in conversations]
    for turn in range(2):
        speeches = [noise(lengths[(n + turn) % 8], n + 10 * turn) for n in range(8)]
        for at in range(0, max(lengths), 2_560):
            for conversation, speech in zip(conversations, speeches, strict=True):
                conversation.hear(speech[at : at + 2_560])
            engine.round()
        for n, conversation in enumerate(conversations):
            conversation.commit(f"u{turn}")
            turns[n].append(("user", [pcm(speeches[n])]))
        branches = [conversation.branch(ANSWER) for conversation in conversations]
        await engine.rest()
        for n, (conversation, branch) in enumerate(zip(conversations, branches, strict=True)):
            got = await read(branch)
            check(got, turns[n], f"You are {n}.")
            conversation.adopt(branch, f"a{turn}", 7)
            turns[n].append(("assistant", got.text[:7]))
        await engine.settle()


@pytest.mark.slow
async def test_one_item_of_ninety_five_seconds(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    lengths = [400_000, 464_000, 464_001, 192_000]
    clips = [noise(length, n) for n, length in enumerate(lengths)]
    for n, clip in enumerate(clips):
        if n:
            conversation.cut(lengths[n - 1])
        say(conversation, clip, 5_120)
        await engine.rest()
    conversation.commit("u1")
    engine_context = engine.info.context_tokens
    assert engine_context == 2048
    with_room = ManualEngine(context_tokens=4096)
    await with_room.start()
    assert (await read_overflow(engine, conversation)).error is not None
    history = [Item("u1", Role.USER, (Speech(tuple(map(pcm, clips))),))]
    got = await answer(with_room, with_room.open(SETTINGS, history))
    check(got, [("user", [pcm(clip) for clip in clips])])


async def read_overflow(engine: ManualEngine, conversation: Conversation) -> Answer:
    branch = conversation.branch(ANSWER)
    await engine.rest()
    return await read(branch)


async def test_the_oldest_turns_are_left_out_of_a_long_conversation(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    turns: list[Turn] = []
    kept: list[int] = []
    for turn in range(16):
        asked = f"Question {turn}: " + "x" * 150
        conversation.insert(Item(f"u{turn}", Role.USER, (Text(asked),)))
        turns.append(("user", asked))
        got = await answer(engine, conversation)
        assert got.done is not None
        # About 200 tokens a turn; 2,048 is the context.
        kept.append(round(got.done.usage.text_tokens / 200))
        # The prompt had whole turns: questions with their answers, and this question.
        assert got.done.usage.dropped_items == 2 * (turn + 1 - kept[-1])
        assert got.done.usage.summarised_items == 0
        if turn in {5, 15}:
            check(got, turns[-2 * kept[-1] + 1 :])
        conversation.insert(Item(f"a{turn}", Role.ASSISTANT, (Text("So it is."),)))
        turns.append(("assistant", "So it is."))
        await engine.settle()
    assert max(kept) <= 8
    assert min(kept[8:]) >= 5
    # Most turns only add to what is resident.
    assert sum(after <= before for before, after in pairwise(kept)) <= 3


@pytest.mark.parametrize("piece_ms", [40, 200, 640])
async def test_pieces_of_any_size(piece_ms: int) -> None:
    engine = ManualEngine(piece_ms=piece_ms)
    await engine.start()
    conversation = engine.open(SETTINGS)
    speech = noise(31_111)
    for at in range(0, 31_111, 4_000):
        conversation.hear(speech[at : at + 4_000])
        await engine.rest()
    conversation.cut(29_999)
    conversation.commit("u1")
    clips = [pcm(speech[:29_999]), pcm(speech[29_999:])]
    check(await answer(engine, conversation), [("user", clips)])
    await engine.stop()


async def test_the_oldest_turns_are_folded_into_a_summary() -> None:
    engine = ManualEngine(summaries=True, max_output_tokens=12)
    await engine.start()
    conversation = engine.open(SETTINGS)
    record = conversation._dialogue._record
    turns: list[Turn] = []
    for turn in range(9):
        asked = f"Question {turn}: " + "x" * 150
        conversation.insert(Item(f"u{turn}", Role.USER, (Text(asked),)))
        turns.append(("user", asked))
        if turn < 8:
            conversation.insert(Item(f"a{turn}", Role.ASSISTANT, (Text("So it is."),)))
            turns.append(("assistant", "So it is."))
            await engine.settle()
        if turn == 3:
            assert record.summary is None
    assert record.summary is not None
    first = int(record.summary.until[1:])
    assert first >= 3
    got = await answer(engine, conversation)
    settings = record.summary.put_into(SETTINGS)
    assert record.summary.text in settings.instructions
    check(got, turns[2 * first :], settings.instructions)
    # It was read in the background.
    assert got.done is not None
    assert got.done.usage.cached_tokens > got.done.usage.text_tokens - 250
    assert (got.done.usage.summarised_items, got.done.usage.dropped_items) == (2 * first, 0)
    # Without the item that it stops before it is of no use: all turns are read again.
    conversation.delete(f"u{first}")
    got = await answer(engine, conversation)
    assert got.done is not None
    assert got.done.usage.text_tokens < 2048
    assert got.done.usage.summarised_items == 0
    await engine.stop()


async def long_conversation(truncation: Truncation) -> Answer:
    """The answer to the last of 16 turns of about 200 tokens; 2,048 is the context."""
    engine = ManualEngine(summaries=True)
    await engine.start()
    conversation = engine.open(replace(SETTINGS, truncation=truncation))
    for turn in range(16):
        conversation.insert(Item(f"u{turn}", Role.USER, (Text(f"{turn} " + "x" * 150),)))
        if turn < 15:
            conversation.insert(Item(f"a{turn}", Role.ASSISTANT, (Text("So it is."),)))
            await engine.settle()
    branch = conversation.branch(ANSWER)
    await engine.rest()
    assert conversation._dialogue._record.summary is None
    await engine.stop()
    return await read(branch)


async def test_a_conversation_that_may_not_be_cut_is_refused() -> None:
    got = await long_conversation(Truncation(allowed=False))
    assert isinstance(got.error, ContextOverflow)
    assert "2048" in str(got.error)


@pytest.mark.parametrize(("ratio", "turns"), [(0.0, 2), (1.0, 8)])
async def test_a_retention_ratio_says_how_much_stays(ratio: float, turns: int) -> None:
    got = await long_conversation(Truncation(retention_ratio=ratio))
    assert got.done is not None
    assert abs(got.done.usage.text_tokens / 200 - turns) <= 1
    assert got.done.usage.dropped_items == 2 * (16 - turns)


async def test_speech_goes_on_while_a_summary_is_made() -> None:
    engine = ManualEngine(summaries=True)
    await engine.start()
    history = [Item(f"u{n}", Role.USER, (Text(f"{n}" * 200),)) for n in range(6)]
    conversation = engine.open(SETTINGS, history)
    conversation._post(conversation._dialogue.be_due)
    speech = noise(40_000)
    for at in range(0, 40_000, 4_000):
        engine.round()
        engine.round()
        conversation.hear(speech[at : at + 4_000])
    conversation.commit("s")
    got = await answer(engine, conversation)
    turns: list[Turn] = [("user", f"{n}" * 200) for n in range(6)]
    check(got, [*turns, ("user", [pcm(speech)])])
    await engine.settle()
    record = conversation._dialogue._record
    assert record.summary is None  # the answer may still be kept
    conversation.insert(Item("t", Role.USER, (Text("Well?"),)))
    await engine.settle()
    await engine.settle()
    assert record.summary is not None
    await engine.stop()
