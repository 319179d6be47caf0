"""The segmenter's settings in samples."""

from __future__ import annotations

from dataclasses import dataclass

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from agent.config import VadSettings

_HYSTERESIS = 0.15
"""Silero's own: speech goes on at this much below the probability it starts at."""

_RESUMING = 0.1
"""In a turn a pause ends at this much below: there is a speaker, who may be hard to hear. At
0.15 turns ended 10 ms later on average, in noise."""

_RECENT_SAMPLES = SAMPLE_RATE_HZ
"""What is said within so long of the last speech is mostly the rest of what was said before."""

_RECENT_START = 0.3
_MAYBE = 0.14
_UNSURE = 0.2
"""Shares of the threshold, 0.15, 0.07 and 0.1 of 0.5. In noise at 5 dB below speech Silero gives
whole words no more than 0.1 to 0.2, and the same noise without them mostly less than 0.05."""

_LONGEST_HOLD_SAMPLES = SAMPLE_RATE_HZ // 4

_POST_ROLL_SAMPLES = SAMPLE_RATE_HZ // 2
"""In noise at 5 dB a word's end that Silero scored like the noise came up to 340 ms after the end
of the turn."""

_POST_ROLL_DB = -10.0
"""And was no quieter than the noise, which leaves it 3 dB more, so that it matters only there."""


def whole_frames(duration_ms: int) -> int:
    """A duration as samples, rounded up to whole frames."""
    samples = duration_ms * SAMPLES_PER_MS
    return -(-samples // FRAME_SAMPLES) * FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """`VadSettings` as the segmenter counts: samples, and probabilities.

    Attributes:
        start_probability: At this, silence becomes speech.
        go_on_probability: At this, speech goes on.
        resume_probability: At this, a pause in a turn is over.
        recent_start_probability: As the first, when a turn has just ended.
        recent_go_on_probability: As the second, likewise.
        recent: How long after its last speech that is.
        post_roll: So soon after a turn what is loud may be speech, whatever it scores.
        post_roll_power: How loud, as a share of the mean power of the turn's speech.
        unsure_probability: From here on a turn does not end yet.
        longest_hold: For how long at most.
        maybe_probability: From here on the next turn reaches back to it.
        hearing_after: Speech in a row that opens the ear.
        padding: Heard before the first speech.
        pre_roll: Samples kept while nothing is heard: the padding and the run that opens.
        reach_back: Most of them, where some may have been speech.
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
    resume_probability: float
    recent_start_probability: float
    recent_go_on_probability: float
    recent: int
    post_roll: int
    post_roll_power: float
    unsure_probability: float
    longest_hold: int
    maybe_probability: float
    hearing_after: int
    padding: int
    pre_roll: int
    reach_back: int
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
        pre_roll = padding + hearing_after
        reach_back = min(int(settings.reach_back_s * SAMPLE_RATE_HZ), clip_soft // 2)

        def below(difference: float) -> float:
            # Never zero, or digital silence would go on as speech.
            return max(settings.threshold - difference, settings.threshold / 10)

        return cls(
            start_probability=settings.threshold,
            go_on_probability=below(_HYSTERESIS),
            resume_probability=below(_RESUMING),
            recent_start_probability=settings.threshold * _RECENT_START,
            recent_go_on_probability=settings.threshold * _MAYBE,
            recent=_RECENT_SAMPLES,
            post_roll=_POST_ROLL_SAMPLES,
            post_roll_power=10 ** (_POST_ROLL_DB / 10),
            unsure_probability=settings.threshold * _UNSURE,
            longest_hold=_LONGEST_HOLD_SAMPLES,
            maybe_probability=settings.threshold * _MAYBE,
            hearing_after=hearing_after,
            padding=padding,
            pre_roll=pre_roll,
            reach_back=max(reach_back, pre_roll),
            min_speech=whole_frames(settings.min_speech_ms),
            misfire_silence=max(FRAME_SAMPLES, whole_frames(settings.misfire_silence_ms)),
            early_pause=whole_frames(settings.early_pause_ms),
            max_turn=int(settings.max_turn_s * SAMPLE_RATE_HZ),
            clip_soft=clip_soft,
            clip_hard=clip_hard,
            # Then the window lies inside the clip, and a clip after a cut has room to grow.
            cut_window=min(int(settings.cut_window_s * SAMPLE_RATE_HZ), clip_hard // 2),
        )
