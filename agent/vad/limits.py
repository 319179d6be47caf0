"""The segmenter's settings in samples."""

from __future__ import annotations

from dataclasses import dataclass

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import SAMPLE_RATE_HZ
from agent.config import VadSettings

_HYSTERESIS = 0.15
"""Silero's own: speech goes on at this much below the probability it starts at."""


def whole_frames(duration_ms: int) -> int:
    """A duration as samples, rounded up to whole frames."""
    samples = duration_ms * SAMPLE_RATE_HZ // 1000
    return -(-samples // FRAME_SAMPLES) * FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """`VadSettings` as the segmenter counts: samples, and probabilities.

    Attributes:
        start_probability: At this, silence becomes speech.
        go_on_probability: Above this, speech goes on.
        hearing_after: Speech in a row that opens the ear.
        pre_roll: Samples kept while nothing is heard: the padding and the run that opens.
        min_speech: Speech that makes a turn.
        misfire_silence: Silence that drops what is less.
        early_pause: Silence that starts early work.
        max_turn: Longest turn.
        clip_soft: From here on a clip is cut at a pause.
        clip_hard: Longest clip.
        cut_window: How far back the quietest place is looked for.
    """

    start_probability: float
    go_on_probability: float
    hearing_after: int
    pre_roll: int
    min_speech: int
    misfire_silence: int
    early_pause: int
    max_turn: int
    clip_soft: int
    clip_hard: int
    cut_window: int

    @classmethod
    def of(cls, settings: VadSettings) -> SegmentLimits:
        """Count in samples; durations in ms are rounded up to whole frames."""
        clip_soft = int(settings.clip_soft_limit_s * SAMPLE_RATE_HZ)
        clip_hard = int(settings.clip_hard_limit_s * SAMPLE_RATE_HZ)
        # Both are held back before anything is heard, and must fit into the first clip.
        longest_held = clip_soft // 4
        hearing_after = min(
            max(FRAME_SAMPLES, whole_frames(settings.hearing_after_ms)), longest_held
        )
        padding = min(whole_frames(settings.prefix_padding_ms), longest_held)
        return cls(
            start_probability=settings.threshold,
            # Never zero, or digital silence would go on as speech.
            go_on_probability=max(settings.threshold - _HYSTERESIS, settings.threshold / 10),
            hearing_after=hearing_after,
            pre_roll=padding + hearing_after,
            min_speech=whole_frames(settings.min_speech_ms),
            misfire_silence=max(FRAME_SAMPLES, whole_frames(settings.misfire_silence_ms)),
            early_pause=whole_frames(settings.early_pause_ms),
            max_turn=int(settings.max_turn_s * SAMPLE_RATE_HZ),
            clip_soft=clip_soft,
            clip_hard=clip_hard,
            # Then the window lies inside the clip, and a clip after a cut has room to grow.
            cut_window=min(int(settings.cut_window_s * SAMPLE_RATE_HZ), clip_hard // 2),
        )
