"""What a row needs next, and what a slot can be brought to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.audio.mel import MelParameters, StreamingMel  # noqa: E402
from agent.audio.pcm import Encoding, decode, encode_pcm16  # noqa: E402
from agent.engine.gemma.cache import Cache, CachePlan  # noqa: E402
from agent.engine.gemma.graphs import StepShapes  # noqa: E402
from agent.engine.gemma.residency import Residency, Resident, Token  # noqa: E402
from agent.engine.gemma.rows import Kind, Rewind, Row, Work  # noqa: E402
from agent.engine.gemma.sounds import SoftStore, Sound  # noqa: E402
from agent.engine.gemma.text_weights import TextWeights  # noqa: E402
from agent.errors import EngineBusy, EngineError  # noqa: E402
from tests.helpers import gemma_oracle as oracle  # noqa: E402
from tests.helpers.tiny_gemma import tiny_config, tiny_model, tiny_tokenizer  # noqa: E402

MEL = MelParameters.from_extractor(oracle.EXTRACTOR)
SHAPES = StepShapes(read_tokens=16)
WEIGHTS = TextWeights.of(tiny_model(tiny_config(tiny_tokenizer())))


def sound(samples: int, *, closed: bool = True, soft: int = 0) -> Sound:
    rng = np.random.default_rng(samples)
    pcm = encode_pcm16((0.1 * rng.standard_normal(samples)).astype(np.float32))
    clip = Sound(MEL, SHAPES.piece_tokens, pcm, closed=closed)
    if soft:
        clip.keep_soft(torch.zeros(soft, 4))
        clip.seen = soft
    return clip


class Reading(Row):
    def __init__(self, target: list[Any], held: int = 0, *, predicts: bool = False) -> None:
        super().__init__(target)
        self.resident = Resident(0, "me", target[:held])
        self.predicts = predicts  # type: ignore[misc]

    def fail(self, error: EngineError) -> None:
        raise error

    def next(self) -> Work:
        work = self.next_work(SHAPES)
        assert work is not None
        return work


def test_text_is_read_in_bounded_pieces() -> None:
    assert Reading([1] * 40).next().tokens == [1] * 16
    assert Reading([1] * 40, 38).next().kind is Kind.READ
    assert Reading([1] * 40, 40).next_work(SHAPES) is None


def test_the_end_of_a_prompt_predicts() -> None:
    assert [Reading([1] * 40, held, predicts=True).next().kind for held in (0, 20, 32, 38, 39)] == [
        Kind.READ,
        Kind.READ,
        Kind.CLOSE,
        Kind.CLOSE,
        Kind.DECODE,
    ]
    assert Reading([1] * 40, 24, predicts=True).next().tokens == [1] * 15  # the last one predicts
    assert Reading([1] * 40, 32, predicts=True).next().predicts
    assert not Reading([1] * 40, 20, predicts=True).next().predicts


def test_speech_is_heard_in_whole_pieces_and_closed_with_text() -> None:
    clip = sound(12_000)  # 74 frames, 19 tokens
    tokens = clip.tokens()
    target: list[Token] = [1, *tokens, 2, 3]
    assert Reading(target, 0).next().tokens == [1]
    first = Reading(target, 1).next()
    assert (first.kind, first.tokens) == (Kind.HEAR, tokens[:8])
    clip.keep_soft(torch.zeros(16, 4))
    clip.seen = 16
    recalled = Reading(target, 1).next()
    assert (recalled.kind, recalled.tokens) == (Kind.RECALL, tokens[:16])
    last = Reading(target, 17, predicts=True).next()
    assert (last.kind, last.tokens, last.predicts) == (Kind.CLOSE, [*tokens[16:], 2, 3], True)
    assert last.text == [2, 3]
    assert tokens[-1].frames == 2


def test_a_slot_that_is_ahead_of_what_is_kept_goes_back() -> None:
    clip = sound(12_000)
    with pytest.raises(Rewind):
        Reading([1, *clip.tokens(), 2], 9).next()


def test_an_encoder_that_is_behind_catches_up_without_writing() -> None:
    clip = sound(12_000, soft=16)
    clip.seen = 8
    work = Reading([1, *clip.tokens(), 2], 17).next()
    assert (work.kind, work.tokens) == (Kind.HEAR, [])


def test_a_branch_hears_a_clip_up_to_where_it_was_asked() -> None:
    clip = sound(12_000, closed=False, soft=16)
    row = Reading([1, *clip.tokens(), 2], 17, predicts=True)
    clip.tails[row] = clip.end()
    assert clip.tails[row].begins == 16
    clip.hear(encode_pcm16(np.zeros(10_000, np.float32)))
    work = row.next()
    assert (work.kind, work.soft[-1].frames) == (Kind.CLOSE, 2)
    # The clip went on, and a copy of the encoder's state was made before.
    clip.keep_soft(torch.zeros(8, 4))
    clip.seen = 24
    clip.tails[row].ear = 3
    assert row.next().tokens == work.tokens


def test_speech_that_was_cut_away_cannot_be_heard() -> None:
    clip = sound(12_000, closed=False, soft=16)
    row = Reading([1, *clip.tokens(), 2], 19)  # all but the last one, which has two frames
    clip.hear(encode_pcm16(np.zeros(10_000, np.float32)))
    clip.keep_soft(torch.zeros(8, 4))
    with pytest.raises(EngineError, match="cut"):
        row.next()


# ---------------------------------------------------------------- clips


def test_features_are_those_of_the_whole_clip_in_any_order() -> None:
    clip = sound(100, closed=False)
    rng = np.random.default_rng(1)
    parts = [encode_pcm16((0.1 * rng.standard_normal(n)).astype(np.float32)) for n in (7, 5_000)]
    whole = bytes(clip._pcm) + b"".join(parts)
    for part in parts:
        clip.hear(part)
    expected = StreamingMel(MEL).push(decode(whole, Encoding.PCM16))
    assert clip.frames == len(expected)
    assert np.array_equal(clip.mel(8, 20), expected[8:20])
    clip.forget_mel(20)
    assert np.array_equal(clip.mel(20, clip.frames), expected[20:])
    assert np.array_equal(clip.mel(0, 12), expected[:12])


def test_a_cut_keeps_the_tokens_of_whole_frames() -> None:
    clip = sound(20_000, closed=False, soft=24)
    tokens = clip.tokens()
    rest = clip.cut(12_000)
    assert (clip.samples, rest.samples, clip.is_closed, rest.is_closed) == (
        12_000, 8_000, True, False,
    )  # fmt: skip
    assert clip.tokens()[:18] == tokens[:18]
    assert clip.tokens()[18] != tokens[18]  # fewer frames: another token
    assert (clip.soft_tokens, clip.seen) == (16, 0)


def test_soft_tokens_are_kept_within_their_bound_the_last_used_ones() -> None:
    store = SoftStore(2 * 16 * 4 * 4)
    clips = [sound(640 * 16 + 1, soft=16) for _ in range(3)]
    for clip in clips:
        assert clip.is_whole
        store.touch(clip)
    assert [clip.soft_tokens for clip in clips] == [0, 16, 16]
    store.touch(clips[1])
    clips[0].keep_soft(torch.zeros(16, 4))
    store.touch(clips[0])
    assert [clip.soft_tokens for clip in clips] == [16, 16, 0]
    store.forget(clips[0])
    assert store.used_bytes == 16 * 4 * 4


# ---------------------------------------------------------------- slots


def fill(residency: Residency, resident: Resident, tokens: list[Token]) -> None:
    residency.cache.advance(resident.slot, len(tokens))
    resident.held += tokens


def test_a_slot_is_found_by_what_it_holds() -> None:
    residency = Residency(Cache(WEIGHTS, CachePlan(3, 200, 1, 8)))
    one, other = residency.take("me"), residency.take("me")
    fill(residency, one, [1, 2, 3, 4])
    fill(residency, other, [1, 2, 9, 9])
    assert residency.best("me", [1, 2, 9]) == (other, 3)
    assert residency.best("me", [1, 2, 9], other) == (one, 2)
    assert residency.best("you", [1, 2, 9]) == (None, 0)
    assert residency.best("me", [7]) == (None, 0)
    fork = residency.fork(one, [1, 2, 3, 5])
    assert fork.held == [1, 2, 3]
    assert residency.cache.length(fork.slot) == 3
    assert one.held == [1, 2, 3, 4]


def test_idle_slots_are_given_up_those_used_longest_ago_first() -> None:
    residency = Residency(Cache(WEIGHTS, CachePlan(2, 200, 1, 8)))
    first, second = residency.take("a"), residency.take("b")
    residency.use(first)
    first.is_busy = False
    third = residency.take("c")
    assert residency.is_here(first)
    assert not residency.is_here(second)
    first.is_busy = third.is_busy = True
    with pytest.raises(EngineBusy, match="2 places"):
        residency.take("d")
    third.is_busy = False
    with pytest.raises(EngineBusy):
        residency.fork(third, [1])  # not even for itself
    residency.free_all("a")
    assert residency.take("d").slot == first.slot


def test_a_snapshot_is_a_place_to_go_back_to() -> None:
    residency = Residency(Cache(WEIGHTS, CachePlan(2, 400, 1, 8)))
    resident = residency.take("me")
    fill(residency, resident, [1] * 50)
    residency.mark(resident)
    fill(residency, resident, [2] * 100)
    target: list[Token] = [*[1] * 50, *[2] * 60, 3]
    assert residency.reach(resident, target) == 50
    fork = residency.fork(resident, target)
    assert (fork.held, fork.mark) == ([1] * 50, None)
    assert residency.go_back(resident, target) == 50
    assert resident.mark is not None
    # Too far back for the rings, and nothing is marked there.
    assert residency.go_back(resident, [1] * 10) == 0
    assert resident.mark is None
    assert residency.cache.length(resident.slot) == 0
