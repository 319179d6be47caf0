from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.audio.pcm import Samples
from agent.config import ScorerName
from agent.errors import ConfigError, ModelStoreError
from agent.vad import scorers
from agent.vad.scorers import (
    CascadeScorer,
    Probabilities,
    SileroScorer,
    SileroState,
    WebRtcScorer,
    make_scorer,
    powers,
)

QUIET = np.zeros((1, 512), np.float32)


def voice(frames: int, level_db: float = 0.0) -> Samples:
    """float32[frames, 512]: a buzz with formants, which WebRTC's detector takes for voice."""
    time_s = np.arange(frames * 512) / 16_000
    buzz = sum(
        np.sin(2 * np.pi * 120 * k * time_s) / (1 + abs(120 * k - 600) / 200) for k in range(1, 30)
    )
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s)
    audio = buzz * swell / np.abs(buzz).max() * 0.3 * 10 ** (level_db / 20)
    return audio.astype(np.float32).reshape(frames, 512)


class FakeSilero(SileroScorer):
    """Calls loud frames speech, and remembers how often it was asked and about what."""

    def __init__(self) -> None:
        self.asked: list[list[float]] = []

    def score(self, states: Sequence[SileroState], frames: Samples) -> Probabilities:
        assert len({id(state) for state in states}) == len(states)
        self.asked.append(frames[:, 0].tolist())
        for state, frame in zip(states, frames, strict=True):
            state.context = frame[:1].copy()
        return np.where(powers(frames) > 1e-4, 0.9, 0.01).astype(np.float32)


# WebRTC


def test_webrtc_tells_voice_from_silence() -> None:
    scorer = WebRtcScorer()
    state = scorer.new_state()
    scores = [float(scorer.score([state], frame[None])[0]) for frame in voice(30)]
    assert np.mean(scores) > 0.9
    assert all(float(scorer.score([state], QUIET)[0]) == 0.0 for _ in range(30))


def test_webrtc_scores_a_batch_as_it_scores_each_alone() -> None:
    scorer = WebRtcScorer()
    audio = [voice(20), voice(20, -30), np.zeros((20, 512), np.float32)]
    together_states = [scorer.new_state() for _ in audio]
    together = [
        scorer.score(together_states, np.stack([frames[index] for frames in audio]))
        for index in range(20)
    ]
    for place, frames in enumerate(audio):
        state = scorer.new_state()
        alone = [scorer.score([state], frame[None])[0] for frame in frames]
        assert [scores[place] for scores in together] == alone


def test_webrtc_carries_the_rest_of_a_frame_into_the_next() -> None:
    scorer = WebRtcScorer()
    state = scorer.new_state()
    rests = []
    for frame in voice(5):
        scorer.score([state], frame[None])
        rests.append(len(state.rest) // 2)
    assert rests == [32, 64, 96, 128, 0]


def test_webrtc_is_not_asked_about_very_quiet_frames() -> None:
    scorer = WebRtcScorer()
    state = scorer.new_state()
    state.detector = None  # would raise
    assert scorer.score([state], QUIET).tolist() == [0.0]
    almost = np.full((1, 512), 10 ** (-86 / 20), np.float32)
    assert scorer.score([state], almost).tolist() == [0.0]


# The cascade


def test_the_network_sleeps_in_silence() -> None:
    silero = FakeSilero()
    cascade = CascadeScorer(silero)
    state = cascade.new_state()
    scores = [float(cascade.score([state], QUIET)[0]) for _ in range(200)]
    assert scores[31:] == [0.0] * 169
    assert len(silero.asked) == 31


def test_what_the_network_slept_through_it_is_shown_once_and_in_order() -> None:
    silero = FakeSilero()
    cascade = CascadeScorer(silero)
    state = cascade.new_state()
    for _ in range(40):
        cascade.score([state], QUIET)
    silero.asked.clear()
    # Told apart by their first samples, and far below the gate.
    for index in range(1, 51):
        frame = QUIET.copy()
        frame[0, 0] = index / 1e6
        cascade.score([state], frame)
    speech = voice(1)[0][None].copy()
    speech[0, 0] = 0.25
    assert cascade.score([state], speech)[0] > 0.5
    shown = [round(asked[0] * 1e6) for asked in silero.asked]
    assert shown == [*range(20, 51), 250_000]
    cascade.score([state], speech)
    assert len(silero.asked) == 33


def test_a_short_sleep_leaves_no_gap_in_what_the_network_hears() -> None:
    silero = FakeSilero()
    cascade = CascadeScorer(silero)
    state = cascade.new_state()
    rng = np.random.default_rng(0)
    pushed = 0
    for _ in range(20):
        for _ in range(int(rng.integers(31, 55))):
            cascade.score([state], QUIET)
            pushed += 1
        cascade.score([state], voice(1)[0][None])
        pushed += 1
    assert len(silero.asked) == pushed


def test_the_network_stays_awake_while_it_hears_speech() -> None:
    class Certain(FakeSilero):
        def score(self, states: Sequence[SileroState], frames: Samples) -> Probabilities:
            super().score(states, frames)
            return np.full(len(states), 0.2, np.float32)

    silero = Certain()
    cascade = CascadeScorer(silero)
    state = cascade.new_state()
    for _ in range(100):
        assert cascade.score([state], QUIET)[0] == np.float32(0.2)
    assert len(silero.asked) == 100


def test_the_cascade_scores_a_batch_as_it_scores_each_alone() -> None:
    rng = np.random.default_rng(0)
    audio = []
    for place in range(4):
        frames = np.zeros((150, 512), np.float32)
        start = 60 + 10 * place
        frames[start : start + 20] = voice(20)
        frames[:, 0] = rng.uniform(-1e-5, 1e-5, 150)
        audio.append(frames)
    cascade = CascadeScorer(FakeSilero())
    together_states = [cascade.new_state() for _ in audio]
    together = [
        cascade.score(together_states, np.stack([frames[index] for frames in audio]))
        for index in range(150)
    ]
    for place, frames in enumerate(audio):
        state = cascade.new_state()
        alone = [cascade.score([state], frame[None])[0] for frame in frames]
        assert [scores[place] for scores in together] == alone
        assert max(alone) > 0.5


# Which one


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_AGENT_CACHE", str(tmp_path))


@pytest.mark.usefixtures("no_models")
def test_without_the_model_auto_is_webrtc_and_the_others_say_what_to_do() -> None:
    assert isinstance(make_scorer(ScorerName.AUTO), WebRtcScorer)
    assert isinstance(make_scorer(ScorerName.WEBRTC), WebRtcScorer)
    for name in (ScorerName.CASCADE, ScorerName.SILERO):
        with pytest.raises(ModelStoreError, match="voice-agent models pull silero-vad"):
            make_scorer(name)


def test_without_onnxruntime_auto_is_webrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert isinstance(make_scorer(ScorerName.AUTO), WebRtcScorer)


def test_silero_without_onnxruntime_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="pip install"):
        make_scorer(ScorerName.SILERO, silero_path=tmp_path / "silero_vad.onnx")


def test_a_path_to_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelStoreError, match=r"no Silero model at .*nothing\.onnx"):
        make_scorer(ScorerName.CASCADE, silero_path=tmp_path / "nothing.onnx")


def test_powers() -> None:
    frames = np.stack([np.full(512, 0.5, np.float32), np.zeros(512, np.float32)])
    assert powers(frames).tolist() == [0.25, 0.0]
    assert scorers.QUIET_DBFS < -60
