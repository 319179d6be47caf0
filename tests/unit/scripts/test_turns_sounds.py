"""What is generated: levels as asked, music that is music, the same sound every time."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.turns_bench.settings import SpeechlessSound, speechless_sounds
from scripts.turns_bench.sounds import BACKCHANNELS, NOISES, at_level, music


@pytest.mark.parametrize("level_dbfs", [-40.0, -25.0])
@pytest.mark.parametrize("kind", ["music", *NOISES])
def test_sound_without_speech_is_as_loud_as_asked(kind: str, level_dbfs: float) -> None:
    blocks = list(SpeechlessSound(kind, level_dbfs, seed=3).blocks(31.0))
    assert [block.size for block in blocks] == [480_000, 16_000]
    for block in blocks:
        assert block.dtype == np.float32
        rms_dbfs = 10 * np.log10(np.mean(block.astype(np.float64) ** 2))
        assert rms_dbfs == pytest.approx(level_dbfs, abs=0.01)


def test_noises_and_music_come_at_both_levels() -> None:
    kinds = {(sound.kind, sound.level_dbfs) for sound in speechless_sounds()}
    assert kinds == {(kind, level) for kind in ("music", *NOISES) for level in (-40.0, -25.0)}


def test_music_is_no_constant_tone() -> None:
    piece = music(10 * 16_000, np.random.default_rng(0)).reshape(-1, 1600)
    spectra = np.abs(np.fft.rfft(piece * np.hanning(1600), axis=1))
    loudest = np.argmax(spectra, axis=1)
    assert len(set(loudest.tolist())) >= 6  # notes
    power = np.mean(piece.astype(np.float64) ** 2, axis=1)
    assert power.std() > 0.2 * power.mean()  # beats
    share = np.sort(spectra**2, axis=1)[:, -3:].sum() / (spectra**2).sum()
    assert share < 0.9  # more than one overtone


def test_pieces_differ() -> None:
    first, second = SpeechlessSound("music", -25.0, seed=1).blocks(60.0)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


@pytest.mark.parametrize("kind", sorted(BACKCHANNELS))
def test_small_sounds_are_short_and_the_same_every_time(kind: str) -> None:
    sound = BACKCHANNELS[kind](np.random.default_rng(5))
    assert 0.15 <= sound.size / 16_000 <= 0.55
    np.testing.assert_array_equal(sound, BACKCHANNELS[kind](np.random.default_rng(5)))
    assert not np.array_equal(sound, BACKCHANNELS[kind](np.random.default_rng(6)))
    assert np.isfinite(sound).all()
    level = at_level(sound, -28.0)
    assert 10 * np.log10(np.mean(level.astype(np.float64) ** 2)) == pytest.approx(-28, abs=0.01)


@pytest.mark.parametrize("kind", ["hum", "uh-huh", "yeah"])
def test_voices_have_a_pitch(kind: str) -> None:
    sound = BACKCHANNELS[kind](np.random.default_rng(1)).astype(np.float64)
    tail = sound[-2400:-800]  # in the last vowel
    correlation = np.correlate(tail, tail, "full")[tail.size - 1 :]
    best = np.argmax(correlation[16_000 // 350 : 16_000 // 70]) + 16_000 // 350
    assert correlation[best] > 0.5 * correlation[0]
