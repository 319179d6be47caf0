"""Whether somebody may be beginning to speak, before that is sure.

Speech begins softly: the scores of its first 100 to 200 ms may be too low to count, the lower the
less the scorer knows of the voice and the room. By the time there is enough speech to withhold the
text of an answer, half as much again has been said. A suspicion costs a moment in which text waits,
and nothing else, so less is enough for it, and it is over by itself.
"""

from __future__ import annotations

from agent.audio.pcm import SAMPLES_PER_MS

LIKELY_ENOUGH = 0.5
"""So likely is speech in every frame, measured by what counts as speech.

Without speech, in noise and music, 3 frames in a row are so in 0.02 % of the time; over 21
recordings at 16 places of the frames each, they come at least 8 ms before 200 ms of speech."""

LONGEST_S = 0.5
"""By then it is known whether it is a turn; a sound that just goes on is not suspected again."""


class Suspicion:
    """Follows the scores of one session.

    Args:
        after_ms: So much in a row raises it.
    """

    def __init__(self, after_ms: int) -> None:
        self._after_samples = after_ms * SAMPLES_PER_MS
        self._run_samples = 0
        self._dropped = False
        self.since: float | None = None
        """When it was raised, in seconds; None while there is none."""

    @property
    def deadline(self) -> float | None:
        """When it is over by itself, in seconds."""
        return None if self.since is None else self.since + LONGEST_S

    def push(self, likelihood: float, samples: int, now: float) -> bool:
        """Take a frame; whether a suspicion was raised or is over with it.

        Args:
            likelihood: 1 and above is speech.
            samples: Of the frame.
            now: The time, in seconds.
        """
        before = self.since
        self.tick(now)
        if likelihood < LIKELY_ENOUGH:
            self._run_samples, self._dropped, self.since = 0, False, None
        else:
            self._run_samples += samples
            if (
                self._run_samples >= self._after_samples
                and not self._dropped
                and self.since is None
            ):
                self.since = now
        return self.since is not before

    def forget(self) -> None:
        """What was heard was no speech, or the client does not want it."""
        self._run_samples, self.since = 0, None

    def tick(self, now: float) -> None:
        """Drop it when it has lasted too long."""
        if self.deadline is not None and now >= self.deadline:
            self.since, self._dropped = None, True
