"""What the segmenter says: the events of turns and clips, in the order of `agent.vad.segmenter`.

Positions count 16 kHz samples since the session began.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from agent.audio.pcm import Samples


class StopReason(StrEnum):
    """Why a turn ended."""

    SILENCE = "silence"  # nothing was said for the silence limit
    MAX_TURN = "max_turn"  # it reached the longest turn; the next one goes on from there
    STALLED = "stalled"  # audio stopped coming (mute, lost network)
    COMMITTED = "committed"  # the client ended it


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Hand these samples (float32[T], T > 0) to the engine now.

    The first one of a turn includes the pre-roll. The array is not copied: do not write.

    Attributes:
        samples: What is heard.
        reached_back: So many of them, the first, are older than the padding: they may have
            been speech, or are but the noise since then.
    """

    samples: Samples
    reached_back: int = 0


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """What is being heard is a turn; it began at `start_sample`, pre-roll included."""

    start_sample: int


@dataclass(frozen=True, slots=True)
class Misfire:
    """Forget all that was heard since the last `Stopped` or `Misfire`.

    Comes in place of `SpeechStarted` when there was too little speech, and whenever the
    segmenter is reset while something was heard, announced or not.
    """


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing was said since `at_sample`, the end of the last speech: start early work."""

    at_sample: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The speaker goes on, from `at_sample`; those samples are heard after this event."""

    at_sample: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The open clip ends after its first `keep_samples` samples.

    The rest of what was heard (maybe nothing) begins the next clip of the same turn.
    `forced` says that the hard limit was reached, not a pause used.
    """

    keep_samples: int
    forced: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """The turn is over and all that was heard in it is to be committed.

    Attributes:
        end_sample: End of the last sample heard, trailing silence included.
        speech_end_sample: End of the last speech; `end_sample` when turns are manual.
        reason: Why.
    """

    end_sample: int
    speech_end_sample: int
    reason: StopReason


SegmentEvent: TypeAlias = Heard | SpeechStarted | Misfire | Paused | Resumed | Cut | Stopped
