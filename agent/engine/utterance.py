"""The open utterance: what is being heard, in clips, and where the speaker paused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.audio.pcm import Samples
from agent.engine.contract import MAX_CLIP_SAMPLES
from agent.errors import ClipTooLong


@dataclass(frozen=True, slots=True)
class Clip:
    """What a model hears in one piece.

    Attributes:
        samples: float32[T], mono, 16 kHz; shorter than `MAX_CLIP_SAMPLES`.
        silent_from: All samples from this index on were heard in a pause; None when the
            clip does not end in one.
    """

    samples: Samples
    silent_from: int | None = None

    @property
    def has_speech(self) -> bool:
        """Whether anything was heard outside a pause."""
        return self.silent_from != 0


class ClipLengths:
    """How long the clips of an utterance are, and what may become of them.

    Attributes:
        open_samples: Of the clip that is still growing; 0 when there is none.
        closed_samples: Of all clips before it.
    """

    def __init__(self) -> None:
        self.open_samples = 0
        self.closed_samples = 0

    @property
    def samples(self) -> int:
        """Of all clips."""
        return self.closed_samples + self.open_samples

    def hear(self, samples: int) -> None:
        """The open clip grows by so many.

        Raises:
            ClipTooLong: It would reach `MAX_CLIP_SAMPLES`; nothing was added.
        """
        if self.open_samples + samples >= MAX_CLIP_SAMPLES:
            raise ClipTooLong(
                f"a clip of {self.open_samples + samples} samples was about to be made; "
                f"it must be shorter than {MAX_CLIP_SAMPLES}"
            )
        self.open_samples += samples

    def cut(self, keep_samples: int) -> None:
        """The open clip ends after so many; the rest is the next one.

        Raises:
            ValueError: `keep_samples` is not within 1 … the samples of the open clip.
        """
        if not 1 <= keep_samples <= self.open_samples:
            raise ValueError(
                f"cannot keep {keep_samples} of {self.open_samples} samples of the open clip"
            )
        self.closed_samples += keep_samples
        self.open_samples -= keep_samples


class Utterance:
    """Speech as it comes: closed clips, then at most one open clip."""

    def __init__(self) -> None:
        self.closed: list[Clip] = []
        self.paused_at: int | None = None
        """Samples of the utterance that were heard when the present pause began."""
        self._pieces: list[Samples] = []
        self._lengths = ClipLengths()

    @property
    def samples(self) -> int:
        """How many samples were heard."""
        return self._lengths.samples

    @property
    def open_clip(self) -> Clip | None:
        """The clip that is still growing, as it is now."""
        if not self._pieces:
            return None
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        silent_from = None
        if self.paused_at is not None:
            silent_from = max(0, self.paused_at - self._lengths.closed_samples)
        return Clip(self._pieces[0], silent_from)

    @property
    def clips(self) -> tuple[Clip, ...]:
        """All clips, the open one last."""
        clip = self.open_clip
        return (*self.closed, clip) if clip is not None else tuple(self.closed)

    def hear(self, samples: Samples) -> None:
        """Add a copy of `samples` to the open clip, or begin one.

        Raises:
            ClipTooLong: The open clip would reach `MAX_CLIP_SAMPLES`; nothing was added.
        """
        self._lengths.hear(samples.size)
        if samples.size:
            self._pieces.append(np.array(samples, dtype=np.float32))

    def cut(self, keep_samples: int) -> Clip:
        """Close the open clip after its first `keep_samples`; the rest begins the next.

        Raises:
            ValueError: `keep_samples` is not within 1 … the samples of the open clip.
        """
        clip = self.open_clip
        self._lengths.cut(keep_samples)
        assert clip is not None
        silent_from = clip.silent_from
        if silent_from is not None and silent_from >= keep_samples:
            silent_from = None
        closed = Clip(clip.samples[:keep_samples], silent_from)
        self.closed.append(closed)
        rest = clip.samples[keep_samples:]
        self._pieces = [rest] if rest.size else []
        return closed

    def pause(self) -> None:
        """What is heard from here on is silence, until `resume`."""
        if self.paused_at is None:
            self.paused_at = self.samples

    def resume(self) -> None:
        """The pause ends; what was heard in the open clip counts as speech again."""
        self.paused_at = None
