"""Encoder and text model together: hear a piece, or close an utterance.

*Hear*: the next whole piece of everyone who is speaking, encoded and written into the cache.
*Close*: the last, partial piece of a clip and the text after it, and the logits that follow;
the encoder's state stays as it was, so the speaker may still go on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agent.engine.gemma.encoder import FRAMES_PER_TOKEN, Encoder, EncoderState
from agent.engine.gemma.steps import Decoder
from agent.engine.gemma.text_ops import Rows


@dataclass(frozen=True, slots=True)
class Clip:
    """Which clip a row's piece belongs to.

    Attributes:
        slots: int64[rows], slots of the encoder's state; no two alike.
        seen: int64[rows], tokens of the clip before the piece.
    """

    slots: Tensor
    seen: Tensor


@dataclass(frozen=True, slots=True)
class Ear:
    """The two steps that take speech."""

    encoder: Encoder
    state: EncoderState
    decoder: Decoder

    def hear(self, mel: Tensor, clip: Clip, rows: Rows, keep: Tensor | None = None) -> None:
        """Encode one whole piece of every row and write it into the cache.

        Args:
            mel: float32[rows, 4 * tokens, bins], all of it real.
            clip: Whose.
            rows: Where its tokens belong; a row that only pads has a count of 0, but needs
                an encoder slot of its own all the same.
            keep: Given the soft tokens, [rows, tokens, hidden], to write them again one day.
        """
        frames = torch.full_like(clip.seen, mel.shape[1])
        soft = self.encoder.encode(self.state, mel, frames, clip.slots, clip.seen)
        if keep is not None:
            keep.copy_(soft)
        self.write(soft, rows)

    def write(self, soft: Tensor, rows: Rows) -> None:
        """Write soft tokens, [rows, tokens, hidden], into the cache."""
        pad = self.decoder.weights.pad
        ids = torch.full(soft.shape[:2], pad, dtype=torch.int64, device=soft.device)
        self.decoder.listen(soft, ids, rows)

    def close(
        self,
        mel: Tensor,
        frames: Tensor,
        clip: Clip,
        text: Tensor,
        rows: Rows,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Encode the rest of every row's clip, write it and the text after it, and predict.

        Args:
            mel: float32[rows, 4 * tokens, bins].
            frames: int64[rows], how many of them are real; may be 0.
            clip: Whose; its state is not changed.
            text: int64[rows, n], token ids after the clip.
            rows: Where all this belongs; `counts` are soft tokens and text tokens together.
            keep: As for `hear`; of each row the real ones come first.

        Returns:
            float32[rows, vocabulary], logits of what follows the last real token.
        """
        soft = self.encoder.encode(self.state, mel, frames, clip.slots, clip.seen, write=False)
        if keep is not None:
            keep.copy_(soft)
        heard = (frames + (FRAMES_PER_TOKEN - 1)) // FRAMES_PER_TOKEN
        count, piece, width = soft.shape
        step = torch.arange(piece + text.shape[1], device=mel.device)
        # Soft tokens first; the text closes up behind the last real one.
        after = (step - heard[:, None]).clamp(0, text.shape[1] - 1)
        is_soft = step < heard[:, None]
        ids = torch.where(is_soft, self.decoder.weights.pad, text.gather(1, after))
        spread = step.clamp(max=piece - 1)[None, :, None].expand(count, -1, width)
        embeds = torch.where(is_soft[..., None], soft.gather(1, spread), self.decoder.embed(ids))
        return self.decoder.predict(embeds, ids, rows)
