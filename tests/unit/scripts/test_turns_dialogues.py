"""Dialogues are what they are said to be: pauses, noise and truth at the right places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.turns_bench.clips import Clip, pause_places, power_of_speech
from scripts.turns_bench.dialogues import (
    LEAD_S,
    Dialogue,
    build_dialogue,
    build_pause_dialogues,
    with_noise,
)
from scripts.turns_bench.sounds import NOISES


def made_clip(seed: int = 0, length: int = 40_000) -> Clip:
    """Something loud with a quiet place in its middle; its first and last 1,000 are silent."""
    rng = np.random.default_rng(seed)
    samples = rng.uniform(-0.2, 0.2, length).astype(np.float32)
    samples[:1_000] = samples[-1_000:] = 0.0
    middle = length // 2
    samples[middle : middle + 900] *= 0.001
    return Clip(f"clip{seed}", samples, ((1_000, middle), (middle + 900, length - 1_000)), 1e-5)


def test_a_pause_is_put_in_exactly_at_the_minimum() -> None:
    clip = made_clip()
    dialogue = build_dialogue("one", [[clip]], gap_s=1.0, seed=(1,))
    (turn,) = dialogue.turns
    (pause,) = turn.pauses
    lead = int(LEAD_S * 16_000)
    (point,) = pause_places(clip, 1)
    assert pause.at == lead + point
    assert 0.1 * 16_000 <= pause.length <= 2.0 * 16_000
    # What was before it and after it is the recording, but for slopes of 5 ms at the cut.
    before = dialogue.samples[lead : pause.at - 80]
    np.testing.assert_array_equal(before, clip.samples[: point - 80])
    resumed = pause.at + pause.length
    after = dialogue.samples[resumed + 80 : resumed + clip.samples.size - point]
    np.testing.assert_array_equal(after, clip.samples[point + 80 :])
    assert np.abs(dialogue.samples[pause.at : resumed]).max() < 1e-4
    assert dialogue.samples.size == lead + clip.samples.size + pause.length + 16_000


def test_the_truth_moves_with_the_pauses() -> None:
    clip = made_clip()
    dialogue = build_dialogue("one", [[clip]], gap_s=1.0, seed=(1,))
    (turn,) = dialogue.turns
    (pause,) = turn.pauses
    lead = int(LEAD_S * 16_000)
    assert turn.start == lead + clip.onset
    assert turn.end == lead + clip.true_end + pause.length
    assert pause.silent_from == lead + 20_000
    assert pause.resumes_at == lead + 20_900 + pause.length
    assert sum(end - start for start, end in dialogue.speech) == sum(
        end - start for start, end in clip.speech
    )


def test_sentences_of_one_turn_have_a_pause_between() -> None:
    dialogue = build_dialogue("two", [[made_clip(1), made_clip(2)]], gap_s=1.0, seed=(2,))
    (turn,) = dialogue.turns
    assert [pause.inside for pause in turn.pauses] == [True, False, True]
    between = turn.pauses[1]
    assert between.silent_from == between.at - 1_000
    assert between.resumes_at == between.at + between.length + 1_000


@given(st.integers(0, 1000), st.integers(1, 4))
def test_speech_lies_in_turns_and_turns_apart(seed: int, turns: int) -> None:
    clips = [[made_clip(seed + number)] for number in range(turns)]
    dialogue = build_dialogue("some", clips, gap_s=2.0, seed=(seed,))
    assert len(dialogue.turns) == turns
    for start, end in dialogue.speech:
        assert any(turn.start <= start < end <= turn.end for turn in dialogue.turns)
        assert np.abs(dialogue.samples[start:end]).mean() > 0.05
    starts = [turn.start for turn in dialogue.turns[1:]] + [dialogue.samples.size]
    for turn, next_start in zip(dialogue.turns, starts, strict=True):
        assert next_start - turn.end >= 2.0 * 16_000


@pytest.mark.parametrize("noise", sorted(NOISES))
@pytest.mark.parametrize("snr_db", [20.0, 10.0, 5.0])
def test_noise_is_as_far_below_speech_as_asked(noise: str, snr_db: float) -> None:
    quiet = build_dialogue("one", [[made_clip()]], gap_s=1.0, seed=(1,))
    noisy = with_noise(quiet, noise, snr_db, (3,))
    added = noisy.samples.astype(np.float64) - quiet.samples
    ratio_db = 10 * np.log10(power_of_speech(quiet.samples, quiet.speech) / np.mean(added**2))
    assert ratio_db == pytest.approx(snr_db, abs=0.01)
    assert (noisy.turns, noisy.speech, noisy.snr_db) == (quiet.turns, quiet.speech, snr_db)


def build(seed: int = 1) -> list[Dialogue]:
    clips = [made_clip(number) for number in range(5)]
    return build_pause_dialogues(clips, rounds=4, gap_s=1.0, turns_each=2, seed=seed)


def test_rounds_have_every_clip_once_and_go_through_the_noises() -> None:
    dialogues = build()
    assert {dialogue.snr_db for dialogue in dialogues} == {None, 20.0, 10.0, 5.0}
    sentences = sum(
        1 + sum(not pause.inside for pause in turn.pauses)
        for dialogue in dialogues
        for turn in dialogue.turns
    )
    assert sentences == 4 * 5


def test_the_same_seed_gives_the_same_dialogues() -> None:
    for one, other in zip(build(), build(), strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
        assert one.turns == other.turns
    assert not np.array_equal(build()[0].samples, build(seed=2)[0].samples)


def test_how_long_a_gap_is_changes_no_pause() -> None:
    short, long = (
        build_dialogue("one", [[made_clip(1)], [made_clip(2)]], gap_s=gap_s, seed=(1,))
        for gap_s in (1.0, 2.0)
    )
    lengths = [
        [pause.length for turn in dialogue.turns for pause in turn.pauses]
        for dialogue in (short, long)
    ]
    assert lengths[0] == lengths[1]
