"""Drafts of a clip that is still growing, for live captions.

Each draft would hear the whole clip again, which takes ever longer. So what two drafts in a
row wrote alike, up to an end of a sentence or phrase that the recogniser marked, is settled:
the next draft begins there.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.audio.pcm import SAMPLE_RATE_HZ
from agent.engine.small.recogniser import Heard, Segment

# Of less there is nothing to gain, and a short beginning is misheard more often.
_LEAST_SAMPLES = 6 * SAMPLE_RATE_HZ
# Ends that are as near as this are the same.
_NEAR_SAMPLES = int(0.3 * SAMPLE_RATE_HZ)


class Drafts:
    """What is settled of the open clip.

    Attributes:
        samples: How many of its first samples no draft hears any more.
        text: What was heard in them.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.text = ""
        self._last: Sequence[Segment] = ()

    def take(self, heard: Heard, start: int) -> None:
        """A draft is done.

        Args:
            heard: What it heard.
            start: The sample of the clip that it began with.
        """
        if start != self.samples:
            return  # begun before something was settled
        segments = [Segment(one.text, start + one.end_sample) for one in heard.segments]
        last, self._last = self._last, segments
        if not segments or segments[-1].end_sample - start < _LEAST_SAMPLES:
            return
        # The last segment may go on, so it is never settled.
        for one, other in zip(segments[:-1], last, strict=False):
            if one.text != other.text or abs(one.end_sample - other.end_sample) > _NEAR_SAMPLES:
                break
            self.samples = one.end_sample
            self.text = f"{self.text} {one.text}".strip()
            self._last = self._last[1:]
