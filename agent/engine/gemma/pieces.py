"""How much speech to hear at once: the smallest piece that keeps up with the speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from agent.engine.gemma.ear import Clip, Ear
from agent.engine.gemma.encoder import FRAMES_PER_TOKEN
from agent.engine.gemma.options import TOKEN_MS
from agent.engine.gemma.text_ops import Rows

PIECES_TOKENS = (8, 16)
"""Pieces to choose from: 320 and 640 ms."""


@dataclass(frozen=True, slots=True)
class PieceChoice:
    """What was measured and chosen.

    Attributes:
        tokens: Soft tokens of one piece.
        loads: By piece size, the share of the speaker's time that hearing one takes; empty
            where nothing had to be measured.
    """

    tokens: int
    loads: dict[int, float]


@torch.no_grad()
def choose_piece_tokens(
    ear: Ear,
    candidates: Sequence[int] = PIECES_TOKENS,
    *,
    most_load: float = 0.4,
    repeats: int = 3,
) -> PieceChoice:
    """Measure one speaker's pieces on this machine and choose their size.

    A step costs nearly the same for a short piece as for a long one, as the weights pass
    once: long pieces keep up where short ones do not, but leave more to do at the end of
    speech. A GPU keeps up with any, so there the first is taken and nothing is measured.

    Args:
        ear: Its encoder state must have room for the longest piece (see `build_ear`), its
            cache a free slot and slack for it. What it holds is left alone.
        candidates: Sizes in soft tokens, ascending.
        most_load: Highest load to accept; the rest is for answering, and for what else the
            machine does.
        repeats: Timed steps of each size, after one that is not timed.

    Returns:
        The first size with an acceptable load, else the one with the lowest.

    Raises:
        EngineBusy: The cache has no free slot.
    """
    device = ear.decoder.weights.embed.device
    if device.type == "cuda":
        return PieceChoice(candidates[0], {})
    loads: dict[int, float] = {}
    for tokens in candidates:
        loads[tokens] = _hearing_s(ear, tokens, repeats) / (tokens * TOKEN_MS / 1000)
        if loads[tokens] <= most_load:
            return PieceChoice(tokens, loads)
    return PieceChoice(min(loads, key=loads.__getitem__), loads)


def _hearing_s(ear: Ear, tokens: int, repeats: int) -> float:
    """Least seconds of hearing one piece of so many tokens: what disturbs only adds."""
    slot = ear.decoder.cache.allocate()
    try:
        # The encoder's last slot is the one that padding writes to.
        idle = torch.tensor([ear.state.mel.shape[0] - 1])
        clip = Clip(idle, torch.zeros(1, dtype=torch.int64))
        rows = Rows(torch.tensor([slot]), torch.tensor([0]), torch.tensor([tokens]))
        mel = torch.zeros(1, tokens * FRAMES_PER_TOKEN, ear.state.mel.shape[1])
        spent = []
        for _ in range(repeats + 1):
            began = perf_counter()
            ear.hear(mel, clip, rows)
            spent.append(perf_counter() - began)
    finally:
        ear.decoder.cache.free(slot)
    return min(spent[1:])
