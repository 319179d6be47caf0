from __future__ import annotations

import pytest

from agent.config import VadSettings
from agent.vad.limits import SegmentLimits, whole_frames


@pytest.mark.parametrize(
    ("duration_ms", "frames"), [(0, 0), (1, 1), (32, 1), (33, 2), (64, 2), (500, 16)]
)
def test_durations_are_rounded_up_to_frames(duration_ms: int, frames: int) -> None:
    assert whole_frames(duration_ms) == frames * 512


def test_defaults() -> None:
    limits = SegmentLimits.of(VadSettings())
    assert (limits.start_probability, limits.go_on_probability) == (0.5, 0.35)
    assert limits.hearing_after == 2 * 512
    assert limits.pre_roll == (10 + 2) * 512
    assert limits.clip_hard == 472_000


@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.15, 0.16, 0.5, 0.99])
def test_speech_goes_on_below_the_threshold_but_not_at_zero(threshold: float) -> None:
    go_on = SegmentLimits.of(VadSettings(threshold=threshold)).go_on_probability
    assert 0 < go_on < threshold


def test_what_is_held_back_fits_into_the_first_clip() -> None:
    limits = SegmentLimits.of(VadSettings(prefix_padding_ms=600_000, hearing_after_ms=600_000))
    assert limits.pre_roll <= limits.clip_soft // 2
