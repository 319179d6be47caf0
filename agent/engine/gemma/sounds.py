"""Clips as the engine keeps them: samples, features, soft tokens, and how far they were heard.

A soft token depends on the clip before it and on how many of its four mel frames exist, and on
nothing that comes later. So `Soft` names it for good: a clip that grows, or is cut, keeps
all tokens whose frames are whole.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agent.audio.mel import MelParameters, StreamingMel
from agent.audio.pcm import Encoding, decode
from agent.engine.gemma.encoder import FRAMES_PER_TOKEN, tokens_of

_BYTES_PER_SAMPLE = 2
_AT_ONCE_SAMPLES = 1280
"""Features of so many samples are made together; of half as many they cost twice as much."""
_numbers = itertools.count(1)


class Soft(NamedTuple):
    """What the encoder makes of 40 ms.

    Attributes:
        clip: Of which clip.
        place: Its index within the clip.
        frames: Mel frames it is made of; fewer than `FRAMES_PER_TOKEN` only at a clip's end.
    """

    clip: Sound
    place: int
    frames: int


class Tail:
    """The end of a clip as it was at some moment, for a branch that hears it up to there.

    Attributes:
        frames: Mel frames up to there.
        begins: Index of the first soft token after its whole pieces.
        ear: Slot of the encoder's state before the last, partial piece, once the clip itself
            has gone on; None while the clip's own state is still at that place.
    """

    def __init__(self, frames: int, piece_tokens: int) -> None:
        self.frames = frames
        self.begins = frames // (FRAMES_PER_TOKEN * piece_tokens) * piece_tokens
        self.ear: int | None = None


class Sound:
    """One clip.

    Samples are kept as 16-bit PCM, and what is heard is exactly that: a clip that comes back
    after a crash is the same clip.

    Attributes:
        is_closed: Whether it will not grow any more.
        ear: Slot of the encoder's state while it is being heard.
        seen: Soft tokens encoded into that state, whole pieces.
        tails: Ends that branches still want to hear, by the branch's row.
    """

    def __init__(
        self,
        parameters: MelParameters,
        piece_tokens: int,
        pcm: bytes = b"",
        *,
        closed: bool = False,
    ) -> None:
        self.number = next(_numbers)
        self.is_closed = closed
        self.ear: int | None = None
        self.seen = 0
        self.tails: dict[object, Tail] = {}
        self._parameters = parameters
        self._piece_tokens = piece_tokens
        self._pcm = bytearray(pcm)
        self._tokens: list[Soft] = []
        self._soft: list[Tensor] = []
        self._soft_tokens = 0
        self._stream = StreamingMel(parameters)
        self._mel: list[NDArray[np.float32]] = []
        self._mel_first = self._mel_frames = 0

    def __repr__(self) -> str:
        return f"Sound({self.number}, {self.samples} samples)"

    # ------------------------------------------------------------ samples

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self._pcm) // _BYTES_PER_SAMPLE

    @property
    def frames(self) -> int:
        """Mel frames of the samples there are."""
        return self._parameters.valid_frames(self.samples)

    @property
    def is_whole(self) -> bool:
        """Whether all of it was heard: its soft tokens are there to the last."""
        return self.is_closed and self._soft_tokens == tokens_of(self.frames)

    def hear(self, pcm: bytes) -> None:
        """Add 16-bit PCM; most features are made soon, not when a step waits for them."""
        self._pcm += pcm
        heard = self._stream.samples
        if self.samples - heard >= _AT_ONCE_SAMPLES:
            self._push(bytes(self._pcm[heard * _BYTES_PER_SAMPLE :]))

    def cut(self, keep_samples: int) -> Sound:
        """Close it after so many samples; the rest, if any, is the clip that is returned."""
        size = keep_samples * _BYTES_PER_SAMPLE
        rest = Sound(self._parameters, self._piece_tokens, bytes(self._pcm[size:]))
        del self._pcm[size:]
        self.is_closed = True
        whole = self.frames // FRAMES_PER_TOKEN
        del self._tokens[whole:]
        last_piece = whole // self._piece_tokens * self._piece_tokens
        if self._soft_tokens > last_piece:
            self._soft = [self.soft(0, last_piece).clone()] if last_piece else []
            self._soft_tokens = last_piece
            if self.seen > last_piece:
                self.seen = 0  # the encoder has gone past the end and must come there again
        return rest

    def drop_samples(self) -> None:
        """Nobody needs it any more; what still names it holds no memory."""
        self._pcm.clear()
        self._tokens.clear()
        self._begin_mel()

    @property
    def whole_tokens(self) -> int:
        """Soft tokens of its whole pieces."""
        return self.frames // (FRAMES_PER_TOKEN * self._piece_tokens) * self._piece_tokens

    def end(self) -> Tail:
        """Its end as it is now."""
        return Tail(self.frames, self._piece_tokens)

    # ------------------------------------------------------------ tokens

    def tokens(self, frames: int | None = None) -> list[Soft]:
        """Its soft tokens when it ends after so many frames; as it is now when None."""
        frames = self.frames if frames is None else frames
        whole, part = divmod(frames, FRAMES_PER_TOKEN)
        for index in range(len(self._tokens), whole):
            self._tokens.append(Soft(self, index, FRAMES_PER_TOKEN))
        tokens = self._tokens[:whole]
        return [*tokens, Soft(self, whole, part)] if part else tokens

    def mel(self, first: int, end: int) -> NDArray[np.float32]:
        """Frames `first` to `end`, float32[frames, bins]."""
        if first < self._mel_first:
            self._begin_mel()
        wanted = self._parameters.samples_for(end)
        if end > self._mel_first + self._mel_frames and wanted > self._stream.samples:
            data = self._pcm[self._stream.samples * _BYTES_PER_SAMPLE : wanted * _BYTES_PER_SAMPLE]
            self._push(bytes(data))
        if len(self._mel) > 1:
            self._mel = [np.concatenate(self._mel)]
        mel = self._mel[0] if self._mel else np.zeros((0, self._parameters.bins), np.float32)
        return mel[first - self._mel_first : end - self._mel_first]

    def _push(self, pcm: bytes) -> None:
        fresh = self._stream.push(decode(pcm, Encoding.PCM16))
        if len(fresh):
            self._mel.append(fresh)
            self._mel_frames += len(fresh)

    def forget_mel(self, before: int) -> None:
        """Frames before `before` will hardly be asked for again."""
        drop = before - self._mel_first
        if drop > 0 and self._mel:
            mel = np.concatenate(self._mel)
            self._mel = [mel[drop:].copy()]
            self._mel_first, self._mel_frames = before, self._mel_frames - drop

    def _begin_mel(self) -> None:
        self._stream = StreamingMel(self._parameters)
        self._mel.clear()
        self._mel_first = self._mel_frames = 0

    # ------------------------------------------------------------ what the encoder made

    @property
    def soft_tokens(self) -> int:
        """How many soft tokens are kept, the first ones."""
        return self._soft_tokens

    @property
    def soft_bytes(self) -> int:
        """What they take."""
        return sum(part.nbytes for part in self._soft)

    def keep_soft(self, soft: Tensor) -> None:
        """Keep the tokens that follow those kept, [tokens, hidden] on the host."""
        self._soft.append(soft)
        self._soft_tokens += len(soft)

    def soft(self, first: int, end: int) -> Tensor:
        """Kept tokens `first` to `end`, [tokens, hidden]."""
        if len(self._soft) > 1:
            self._soft = [torch.cat(self._soft)]
        return self._soft[0][first:end]

    def drop_soft(self) -> None:
        """Keep no soft tokens: it would be heard again from its samples."""
        self._soft, self._soft_tokens, self.seen = [], 0, 0


class SoftStore:
    """Keeps soft tokens within a bound; those of clips that were used longest ago go first.

    Args:
        budget_bytes: Of host memory.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._sounds: OrderedDict[Sound, int] = OrderedDict()
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of all soft tokens kept."""
        return self._used_bytes

    def touch(self, sound: Sound) -> None:
        """It was used just now, or has grown."""
        self._used_bytes += sound.soft_bytes - self._sounds.pop(sound, 0)
        self._sounds[sound] = sound.soft_bytes
        for other in list(self._sounds):
            if self._used_bytes <= self._budget_bytes:
                break
            if other is not sound and other.is_whole:  # others are in the middle of being heard
                self.forget(other)

    def forget(self, sound: Sound) -> None:
        """Nobody needs its soft tokens at present."""
        self._used_bytes -= self._sounds.pop(sound, 0)
        sound.drop_soft()
