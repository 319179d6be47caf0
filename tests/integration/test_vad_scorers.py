"""The real detectors on real speech and on noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from agent.audio.pcm import Samples
from agent.config import VadSettings
from agent.errors import ModelStoreError
from agent.vad.events import StopReason
from agent.vad.scorers import (
    CascadeScorer,
    Probabilities,
    Scorer,
    SileroScorer,
    SileroState,
    WebRtcScorer,
    silero_model_path,
)
from agent.vad.segmenter import Segmenter
from tests.helpers.segments import Listener
from tests.helpers.speech import recordings

pytestmark = pytest.mark.models

SPEECH_SAMPLES_MISSED = 4 * 512
"""How much later the cascade may wake: less than half of the pre-roll, so no speech is lost."""


class CountingSilero(SileroScorer):
    """Counts the frames it is run on."""

    frames = 0

    def score(self, states: Sequence[SileroState], frames: Samples) -> Probabilities:
        self.frames += len(states)
        return super().score(states, frames)


@pytest.fixture(scope="module")
def silero() -> CountingSilero:
    try:
        return CountingSilero(silero_model_path())
    except ModelStoreError as error:
        pytest.skip(str(error))


def as_frames(audio: Samples, lead_s: float = 2.0, tail_s: float = 1.5) -> Samples:
    """float32[n, 512] with silence around the audio, as 16-bit samples have it."""
    padded = np.pad(audio, (int(lead_s * 16_000), int(tail_s * 16_000)))
    return padded[: padded.size // 512 * 512].reshape(-1, 512)


def as_microphone(frames: Samples, gain_db: float, noise_dbfs: float | None) -> Samples:
    """The same farther away, with white noise of the room, in steps of 16 bits."""
    audio = frames * np.float32(10 ** (gain_db / 20))
    if noise_dbfs is not None:
        rng = np.random.default_rng(0)
        audio = audio + rng.normal(0, 10 ** (noise_dbfs / 20), audio.shape)
    return (np.rint(np.clip(audio, -1, 1) * 32_767) / 32_768).astype(np.float32)


def scores(scorer: Scorer[Any], frames: Samples) -> Probabilities:
    state = scorer.new_state()
    return np.concatenate([scorer.score([state], frame[None]) for frame in frames])


def turns(frames: Samples, probabilities: Probabilities) -> list[tuple[int, int]]:
    segmenter, listener = Segmenter(VadSettings()), Listener()
    for frame, probability in zip(frames, probabilities, strict=True):
        listener.push(frame, segmenter.push(frame, float(probability)))
    listener.take(segmenter.stop(StopReason.COMMITTED))
    return [(turn.start, turn.end) for turn in listener.turns]


def white_noise(dbfs: float, seconds: int = 60) -> Samples:
    return as_microphone(np.zeros((seconds * 31, 512), np.float32), 0.0, dbfs)


def test_silero_scores_a_batch_as_it_scores_each_alone(silero: CountingSilero) -> None:
    audio = [as_frames(clip.samples(), 0.5, 0.0)[:60] for clip in recordings()[:5]]
    count = min(len(frames) for frames in audio)
    states = [silero.new_state() for _ in audio]
    together = np.stack(
        [silero.score(states, np.stack([frames[i] for frames in audio])) for i in range(count)],
        axis=1,
    )
    for place, frames in enumerate(audio):
        np.testing.assert_allclose(together[place], scores(silero, frames[:count]), atol=1e-4)
    assert together.max() > 0.9


@pytest.mark.parametrize(("gain_db", "noise_dbfs"), [(0, None), (-30, None), (-20, -60), (0, -40)])
def test_the_cascade_finds_the_speech_that_silero_finds(
    silero: CountingSilero, gain_db: float, noise_dbfs: float | None
) -> None:
    cascade = CascadeScorer(silero)
    for clip in recordings():
        frames = as_microphone(as_frames(clip.samples()), gain_db, noise_dbfs)
        expected = turns(frames, scores(silero, frames))
        found = turns(frames, scores(cascade, frames))
        assert len(found) == len(expected), clip.path.name
        for (start, end), (expected_start, expected_end) in zip(found, expected, strict=True):
            assert start <= expected_start + SPEECH_SAMPLES_MISSED, clip.path.name
            assert end >= expected_end - SPEECH_SAMPLES_MISSED, clip.path.name


@pytest.mark.parametrize("scorer", [SileroScorer, WebRtcScorer])
def test_each_finds_every_recording(
    silero: CountingSilero, scorer: type[SileroScorer] | type[WebRtcScorer]
) -> None:
    for clip in recordings():
        frames = as_frames(clip.samples())
        tested = silero if scorer is SileroScorer else WebRtcScorer()
        found = sum(end - start for start, end in turns(frames, scores(tested, frames)))
        assert found > 0.6 * clip.samples().size, clip.path.name


@pytest.mark.parametrize("dbfs", [-90, -70, -60, -50])
def test_noise_opens_no_turn_and_lets_the_network_sleep(
    silero: CountingSilero, dbfs: float
) -> None:
    frames = white_noise(dbfs)
    silero.frames = 0
    assert turns(frames, scores(CascadeScorer(silero), frames)) == []
    # A second at the start until it is sure, and a few false alarms.
    assert silero.frames < 100


def test_loud_noise_opens_no_turn(silero: CountingSilero) -> None:
    frames = white_noise(-30, seconds=20)
    assert turns(frames, scores(CascadeScorer(silero), frames)) == []
    assert turns(frames, scores(silero, frames)) == []
