"""Choosing the next token of every row, on the device.

A row's choice depends on its logits, its parameters, its seed and its step, and on no other
row: noise is a hash of (seed, step, token), not the state of a generator. The order is that
of transformers: repetition penalty, temperature, top-k, top-p.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from agent.engine.branches import Limits

CANDIDATES = 256
"""Rows with a small top-k look at this many best tokens; more than top-k, for ties."""
SMALL_TOP_K = 128

_LARGE_ROWS = 8
"""Rows without a small top-k are sorted whole, so many at once: each takes some 10 MB."""

_UNSET_TOP_K = 50
"""What transformers takes for a checkpoint that samples and names no top-k."""
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How a row chooses.

    Attributes:
        temperature: 0 is greedy.
        top_k: Only so many best tokens; 0 for all.
        top_p: Only the best tokens that together have this probability; 1 for all.
        repetition_penalty: 1 for none (Keskar et al. 2019, "CTRL").
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, generation_config: Any) -> SamplingParameters:
        """A checkpoint's own, from its generation config."""

        def or_else(value: float | None, default: float) -> float:
            return default if value is None else value

        config = generation_config
        penalty = or_else(config.repetition_penalty, 1.0)
        if not config.do_sample:
            return cls(repetition_penalty=penalty)
        return cls(
            or_else(config.temperature, 1.0),
            int(or_else(config.top_k, _UNSET_TOP_K)),
            or_else(config.top_p, 1.0),
            penalty,
        )

    def under(self, limits: Limits) -> SamplingParameters:
        """With the temperature that a branch asks for, if it asks."""
        if limits.temperature is None:
            return self
        return replace(self, temperature=limits.temperature)

    @property
    def greedy(self) -> bool:
        """Whether the best token is taken."""
        return self.temperature == 0


@dataclass(slots=True)
class Draws:
    """One branch's choices so far.

    Attributes:
        parameters: How it chooses.
        seed: 64 bits.
        step: Tokens chosen.
        seen: bool[vocabulary] on the device: tokens that are penalised; None without penalty.
    """

    parameters: SamplingParameters
    seed: int
    step: int = 0
    seen: Tensor | None = None


class Sampler:
    """Samples rows of logits over one vocabulary on one device."""

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self._vocabulary = vocabulary
        self._device = device

    def begin(
        self, parameters: SamplingParameters, seed: int | None = None, prompt: Iterable[int] = ()
    ) -> Draws:
        """A branch's draws.

        Args:
            parameters: How it chooses.
            seed: None for a fresh one.
            prompt: Text tokens of its prompt, which a repetition penalty counts.
        """
        draws = Draws(parameters, secrets.randbits(64) if seed is None else seed & _WORD)
        if parameters.repetition_penalty != 1:
            draws.seen = torch.zeros(self._vocabulary, dtype=torch.bool, device=self._device)
            index = self._sent([sorted(set(prompt))], torch.int64)[0]
            draws.seen.index_fill_(0, index, True)
        return draws

    @torch.no_grad()
    def sample(self, logits: Tensor, rows: Sequence[Draws], best: Tensor | None = None) -> Tensor:
        """Choose every row's next token; the draws advance.

        Nothing waits for the device.

        Args:
            logits: float32[at least len(rows), vocabulary]; not changed.
            rows: One a row.
            best: int64[…], the greedy tokens of these logits where they are known already.

        Returns:
            int64[rows], on the device.
        """
        logits = logits[: len(rows)]
        penalised = [row for row, draws in enumerate(rows) if draws.seen is not None]
        if penalised:
            logits = self._penalise(logits, rows, penalised)
        chosen = logits.argmax(1) if penalised or best is None else best[: len(rows)].clone()
        for group, width in self._groups(rows):
            index, picked = self._draw(logits, rows, group, width)
            chosen.index_copy_(0, index, picked)
        for row, draws in enumerate(rows):
            draws.step += 1
            if draws.seen is not None:
                draws.seen.index_fill_(0, chosen[row : row + 1], True)
        return chosen

    def _groups(self, rows: Sequence[Draws]) -> Iterator[tuple[list[int], int]]:
        """Rows that are sampled alike, and from how many tokens each."""
        small: list[int] = []
        large: list[int] = []
        for row, draws in enumerate(rows):
            if not draws.parameters.greedy:
                (small if 0 < draws.parameters.top_k <= SMALL_TOP_K else large).append(row)
        if small:
            yield small, min(CANDIDATES, self._vocabulary)
        for begin in range(0, len(large), _LARGE_ROWS):
            yield large[begin : begin + _LARGE_ROWS], self._vocabulary

    def _penalise(self, logits: Tensor, rows: Sequence[Draws], group: Sequence[int]) -> Tensor:
        index = self._sent([group], torch.int64)[0]
        penalty = self._sent([[rows[row].parameters.repetition_penalty for row in group]])[
            0, :, None
        ]
        seen = torch.stack([one for row in group if (one := rows[row].seen) is not None])
        own = logits[index]
        scaled = torch.where(own < 0, own * penalty, own / penalty)
        return logits.index_copy(0, index, torch.where(seen, scaled, own))

    def _draw(
        self, logits: Tensor, rows: Sequence[Draws], group: Sequence[int], width: int
    ) -> tuple[Tensor, Tensor]:
        """Sample the rows of a group from their `width` best tokens: their places, their tokens."""
        own = [rows[row] for row in group]
        last = [min(draws.parameters.top_k or width, width) - 1 for draws in own]
        keys = [_signed(_key(draws.seed, draws.step)) for draws in own]
        index, last_kept, key = self._sent([group, last, keys], torch.int64)[:, :, None]
        temperature, tail = self._sent(
            [[draws.parameters.temperature for draws in own], [_tail(draws) for draws in own]]
        )[:, :, None]
        if len(group) < len(logits):
            logits = logits[index[:, 0]]
        scores, tokens = _best(logits, temperature, width)
        scores = scores.masked_fill(scores < scores.gather(1, last_kept), -torch.inf)
        # From the least probable up, as transformers adds them.
        dropped = scores.flip(1).softmax(1).cumsum(1).flip(1) <= tail
        dropped[:, 0] = False
        scores = scores.masked_fill(dropped, -torch.inf).double()
        place = (scores + _gumbel(key, tokens)).argmax(1, keepdim=True)
        return index[:, 0], tokens.gather(1, place)[:, 0]

    def _sent(
        self, values: Sequence[Sequence[float]], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Numbers on the device; nothing waits for the copy."""
        on_gpu = self._device.type == "cuda"
        return torch.tensor(values, dtype=dtype, pin_memory=on_gpu).to(
            self._device, non_blocking=True
        )


def _best(logits: Tensor, temperature: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Scores and numbers of the `width` best tokens, by score, among equals by number."""
    if width == logits.shape[1]:
        return (logits / temperature).sort(dim=1, descending=True, stable=True)
    # In the order of their numbers first: `topk` leaves the order of equals open.
    tokens = logits.topk(width, 1).indices.sort(1).values
    scores, order = (logits.gather(1, tokens) / temperature).sort(
        dim=1, descending=True, stable=True
    )
    return scores, tokens.gather(1, order)


def _tail(draws: Draws) -> float:
    """Probability of the least probable tokens that are left out; below 0 for none."""
    top_p = draws.parameters.top_p
    return 1 - top_p if top_p < 1 else -1.0


def _gumbel(key: Tensor, tokens: Tensor) -> Tensor:
    """float64 noise of each token under its row's key; SplitMix64 (Steele et al. 2014)."""
    bits = key + (tokens + 1) * _signed(_GOLDEN)
    bits = (bits ^ _shifted(bits, 30)) * _signed(_MIX[0])
    bits = (bits ^ _shifted(bits, 27)) * _signed(_MIX[1])
    bits = bits ^ _shifted(bits, 31)
    # 52 bits and a half: never 0, never 1.
    uniform = (_shifted(bits, 12).double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(uniform))


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Unsigned shift to the right; torch shifts in copies of the sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _key(seed: int, step: int) -> int:
    """A row's key for one step: its seed's mixed with its step."""
    return _mixed(_mixed(seed) + (step + 1) * _GOLDEN)


def _mixed(bits: int) -> int:
    bits &= _WORD
    bits = (bits ^ (bits >> 30)) * _MIX[0] & _WORD
    bits = (bits ^ (bits >> 27)) * _MIX[1] & _WORD
    return bits ^ (bits >> 31)


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits
