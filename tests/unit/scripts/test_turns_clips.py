"""Where speech is in a clip, where it truly ends, where a pause may be put."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.framing import FRAME_SAMPLES
from agent.vad.scorers import SileroScorer, silero_model_path
from scripts.turns_bench.clips import (
    SPEECH_DBFS,
    Clip,
    first_speech_at_or_after,
    last_speech_before,
    make_clip,
    pause_places,
    power_of_speech,
    quiet_points,
    speech_reached,
    speech_spans,
)
from tests.helpers.speech import recording

AROUND = 16  # frames of silence that score_clean puts on either side


def scores(*loud: int, frames: int) -> np.ndarray:
    probabilities = np.full(frames + 2 * AROUND, 0.5, np.float32)  # 0.5 itself is no speech
    probabilities[[AROUND + frame for frame in loud]] = 0.51
    return probabilities


def test_the_true_end_is_that_of_the_last_frame_above_a_half() -> None:
    spans = speech_spans(scores(2, 3, 7, frames=10), 10 * FRAME_SAMPLES)
    assert spans == (
        (2 * FRAME_SAMPLES, 4 * FRAME_SAMPLES),
        (7 * FRAME_SAMPLES, 8 * FRAME_SAMPLES),
    )


def test_speech_lies_within_the_clip() -> None:
    count = 4 * FRAME_SAMPLES + 100
    probabilities = np.zeros(5 + 2 * AROUND, np.float32)
    probabilities[AROUND - 1 : AROUND + 7] = 1.0
    assert speech_spans(probabilities, count) == ((0, count),)


def test_a_clip_without_speech_is_refused() -> None:
    with pytest.raises(ValueError, match="no speech"):
        speech_spans(np.zeros(40, np.float32), 8 * FRAME_SAMPLES)


def test_a_pause_is_put_into_the_quietest_place() -> None:
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.3, 0.3, 48_000).astype(np.float32)
    samples[20_000:21_000] *= 0.01
    (point,) = quiet_points(samples, 0, 48_000, 1)
    # Half of the 40 ms that are compared lies on either side.
    assert 20_000 + 320 <= point <= 21_000 - 320


def test_each_share_of_the_clip_gives_one_place() -> None:
    samples = np.full(64_000, 0.3, np.float32)
    for quiet in (14_000, 32_000, 49_000):
        samples[quiet : quiet + 800] = 0.0
    points = quiet_points(samples, 0, 64_000, 3)
    assert [point // 1000 for point in points] == [14, 32, 49]


@given(
    st.integers(0, 2**32 - 1), st.integers(1_000, 40_000), st.integers(1, 6), st.integers(0, 9_000)
)
def test_places_keep_their_distance(seed: int, length: int, count: int, first: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    points = quiet_points(samples, first, length, count)
    assert len(points) <= count
    assert all(first <= point < length for point in points)
    assert all(after - before >= 9_600 for before, after in pairwise(points))


def test_enough_is_said_before_and_after_the_pauses() -> None:
    samples = np.random.default_rng(0).uniform(-0.2, 0.2, 64_000).astype(np.float32)
    samples[4_000:8_000] = samples[58_000:60_000] = 0.0
    speech = ((0, 4_000), (8_000, 58_000), (60_000, 64_000))
    places = pause_places(Clip("made up", samples, speech, 1e-5), 4)
    assert len(places) >= 3
    # 600 ms of speech are 9,600 samples; the silences do not count.
    assert places[0] >= 8_000 + 5_600
    assert places[-1] <= 58_000 - 5_600


def test_how_far_speech_reaches() -> None:
    assert speech_reached(((10, 20), (50, 70)), 10) == 20
    assert speech_reached(((10, 20), (50, 70)), 11) == 51
    assert speech_reached(((10, 20), (50, 70)), 99) == 70


def test_speech_around_a_position() -> None:
    spans = ((100, 200), (300, 400))
    assert first_speech_at_or_after(spans, 50) == 100
    assert first_speech_at_or_after(spans, 150) == 150
    assert first_speech_at_or_after(spans, 200) == 300
    assert last_speech_before(spans, 150) == 150
    assert last_speech_before(spans, 250) == 200
    with pytest.raises(ValueError, match="no speech after"):
        first_speech_at_or_after(spans, 400)
    with pytest.raises(ValueError, match="no speech before"):
        last_speech_before(spans, 100)


@pytest.mark.models
def test_a_real_recording() -> None:
    clip = make_clip(recording(at_least_s=2, at_most_s=4), SileroScorer(silero_model_path()))
    assert 0 <= clip.onset < clip.true_end <= clip.samples.size
    level = 10 * np.log10(power_of_speech(clip.samples, clip.speech))
    assert level == pytest.approx(SPEECH_DBFS, abs=0.01)
    assert 0 < clip.floor <= 10 ** (-50 / 20)
    for point in pause_places(clip, 2):
        around = np.abs(clip.samples[point - 160 : point + 160]).mean()
        assert around < np.abs(clip.samples[clip.onset : clip.true_end]).mean() / 2
