"""Keys and values of many conversations: preallocated slots, each at its own length.

Full-attention layers keep every token of a slot. Sliding layers keep a ring of the window
and some slack; position *p* lies at `p % ring`. Layers that share keys and values have none
of their own. A fork is a copy of what the source holds, so branches never disturb each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agent.engine.gemma.text_weights import FULL, SLIDING, TextWeights
from agent.errors import ContextOverflow, EngineBusy, EngineError


@dataclass(frozen=True, slots=True)
class CachePlan:
    """How much memory goes where, decided before anything is allocated.

    Attributes:
        slots: Conversations and branches held at once.
        slot_tokens: Tokens of one slot.
        snapshots: Snapshots held at once.
        slack_tokens: Longest piece that is written at once, and how far a slot can be
            truncated without a snapshot.
    """

    slots: int
    slot_tokens: int
    snapshots: int
    slack_tokens: int

    @classmethod
    def fit(
        cls,
        weights: TextWeights,
        free_bytes: int,
        *,
        slot_tokens: int,
        slack_tokens: int = 64,
        most_slots: int = 512,
    ) -> CachePlan:
        """As many slots as fit, one snapshot for every two of them.

        Raises:
            EngineError: Not even one slot of that many tokens fits.
        """
        full, ring = cls(1, slot_tokens, 0, slack_tokens).bytes_each(weights)
        # One slot more for what padding writes; a snapshot is a ring.
        slots = min(most_slots, int((free_bytes - full - ring) / (full + 1.5 * ring)))
        if slots < 1:
            raise EngineError(
                f"{free_bytes / 2**30:.2f} GiB are free, not enough for one conversation of "
                f"{slot_tokens} tokens ({(2 * full + 2.5 * ring) / 2**30:.2f} GiB): "
                "lower the context or use a bigger device"
            )
        return cls(slots, slot_tokens, (slots + 1) // 2, slack_tokens)

    def bytes_each(self, weights: TextWeights) -> tuple[int, int]:
        """Bytes of one slot: its full layers, its rings."""
        size = {SLIDING: 0, FULL: 0}
        for layer in weights.layers[: weights.owning]:
            size[layer.kind] += 2 * layer.kv_heads * layer.head_dim * weights.embed.element_size()
        ring = weights.window + self.slack_tokens
        return size[FULL] * self.slot_tokens, size[SLIDING] * ring


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A slot's sliding layers as they were; see `Cache.restore`."""

    place: int
    length: int
    written: int


@dataclass(slots=True)
class _Slot:
    length: int = 0
    # One past the highest position ever written: rings hold nothing older than ring before it.
    written: int = 0


class Cache:
    """Slots of keys and values.

    `tensors[kind]` is [2 * layers of that kind, rows, kv_heads, ring, head_dim]: keys of layer
    *n* at 2 *n*, values at 2 *n* + 1. The last row takes what padding writes.
    Lengths are kept on the host; steps are given them as tensors.
    """

    def __init__(self, weights: TextWeights, plan: CachePlan) -> None:
        self.plan = plan
        self.window = weights.window
        self.ring = weights.window + plan.slack_tokens
        rows = {FULL: plan.slots + 1, SLIDING: plan.slots + plan.snapshots + 1}
        depth = {FULL: plan.slot_tokens, SLIDING: self.ring}
        owning = weights.layers[: weights.owning]
        self.tensors: dict[str, Tensor] = {}
        for kind in (SLIDING, FULL):
            layers = [layer for layer in owning if layer.kind == kind]
            shape = (2 * len(layers), rows[kind], layers[0].kv_heads, depth[kind])
            self.tensors[kind] = weights.embed.new_zeros(*shape, layers[0].head_dim)
        self._slots: dict[int, _Slot] = {}
        self._free = list(range(plan.slots - 1, -1, -1))
        self._free_snapshots = [plan.slots + index for index in range(plan.snapshots - 1, -1, -1)]

    @property
    def free_slots(self) -> int:
        """How many slots are free."""
        return len(self._free)

    def length(self, slot: int) -> int:
        """Tokens a slot holds."""
        return self._slots[slot].length

    def allocate(self) -> int:
        """Take an empty slot.

        Raises:
            EngineBusy: None is free.
        """
        if not self._free:
            raise EngineBusy(f"all {self.plan.slots} conversation slots are taken")
        slot = self._free.pop()
        self._slots[slot] = _Slot()
        return slot

    def free(self, slot: int) -> None:
        """Give a slot back."""
        del self._slots[slot]
        self._free.append(slot)

    def check_room(self, slot: int, tokens: int) -> None:
        """Raise unless so many more tokens may be written at once.

        Raises:
            ContextOverflow: The slot is too small.
            EngineError: The piece is longer than the slack of the rings.
        """
        length = self._slots[slot].length
        if length + tokens > self.plan.slot_tokens:
            raise ContextOverflow(
                f"{length} + {tokens} tokens do not fit into the {self.plan.slot_tokens} "
                "of a conversation"
            )
        if tokens > self.plan.slack_tokens:
            raise EngineError(f"a piece of {tokens} tokens is longer than the rings' slack")

    def advance(self, slot: int, tokens: int) -> None:
        """Note that a step wrote so many tokens behind the slot's length."""
        state = self._slots[slot]
        state.length += tokens
        state.written = max(state.written, state.length)

    def can_truncate(self, slot: int, length: int) -> bool:
        """Whether the rings still hold the window before position `length`."""
        state = self._slots[slot]
        needed = max(0, length - self.window + 1)
        return length == 0 or (0 < length <= state.length and needed >= state.written - self.ring)

    def truncate(self, slot: int, length: int) -> None:
        """Forget the tokens from position `length` on.

        Raises:
            EngineError: The rings no longer hold the window before it: restore a snapshot,
                or fill the slot anew.
        """
        if not self.can_truncate(slot, length):
            raise EngineError(
                f"slot {slot} of {self._slots[slot].length} tokens cannot go back to {length}"
            )
        state = self._slots[slot]
        state.length = length
        if length == 0:
            state.written = 0

    def fork(self, slot: int) -> int:
        """A new slot with the same tokens.

        Raises:
            EngineBusy: No slot is free.
        """
        target = self.allocate()
        self.copy(slot, target)
        return target

    def copy(self, source: int, target: int) -> None:
        """Make slot `target` hold what slot `source` holds."""
        state = self._slots[source]
        full, rings = self.tensors[FULL], self.tensors[SLIDING]
        full[:, target, :, : state.length] = full[:, source, :, : state.length]
        self._copy_ring(rings, source, target, state.written)
        self._slots[target] = _Slot(state.length, state.written)

    def snapshot(self, slot: int) -> Snapshot:
        """Keep a slot's present state, to come back to it however much is written after.

        Raises:
            EngineBusy: No place for another snapshot.
        """
        if not self._free_snapshots:
            raise EngineBusy(f"all {self.plan.snapshots} snapshots are taken")
        state, place = self._slots[slot], self._free_snapshots.pop()
        self._copy_ring(self.tensors[SLIDING], slot, place, state.written)
        return Snapshot(place, state.length, state.written)

    def restore(self, slot: int, snapshot: Snapshot) -> None:
        """Bring the slot that a snapshot was taken of back to it; the snapshot stays valid.

        Raises:
            EngineError: The slot is shorter now: its full layers were overwritten.
        """
        state = self._slots[slot]
        if state.length < snapshot.length:
            raise EngineError(f"slot {slot} was cut below its snapshot")
        self._copy_ring(self.tensors[SLIDING], snapshot.place, slot, snapshot.written)
        self._slots[slot] = _Slot(snapshot.length, snapshot.written)

    def drop(self, snapshot: Snapshot) -> None:
        """Give a snapshot's place back."""
        self._free_snapshots.append(snapshot.place)

    def _copy_ring(self, rings: Tensor, source: int, target: int, written: int) -> None:
        used = min(written, self.ring)
        rings[:, target, :, :used] = rings[:, source, :, :used]

    def layer(self, kind: str, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each [rows, kv_heads, ring, head_dim]."""
        tensor = self.tensors[kind]
        return tensor[2 * index], tensor[2 * index + 1]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def rotary_tables(weights: TextWeights, positions: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Cosine and sine of every position, by kind, each float32[positions, head_dim / 2]."""
    tables = {}
    for kind, (frequencies, factor) in weights.frequencies.items():
        place = torch.arange(positions, device=frequencies.device, dtype=torch.float32)
        angles = place[:, None] * frequencies
        tables[kind] = (angles.cos() * factor, angles.sin() * factor)
    return tables
