"""The steps with fixed shapes: captured as CUDA graphs per batch bucket, plain on the CPU.

Callers give lists, one entry a row. On a GPU the rows are padded to the next bucket, copied
into the bucket's input buffers in one go, and the bucket's graph is replayed; on the CPU the
same functions run on just the rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agent.engine.gemma.cache import Cache, CachePlan
from agent.engine.gemma.ear import Clip, Ear
from agent.engine.gemma.encoder import FRAMES_PER_TOKEN, Encoder, EncoderState, tokens_of
from agent.engine.gemma.steps import Decoder
from agent.engine.gemma.text_ops import Rows
from agent.engine.gemma.text_weights import TextWeights
from agent.engine.gemma.weights import EncoderWeights
from agent.errors import EngineError

Mel = NDArray[np.float32]
Progress = Callable[[str, float], None]

SLOT, START, COUNT, TOKEN, ENCODER_SLOT, SEEN, FRAMES = range(7)
"""Rows of a step's integer inputs."""


@dataclass(frozen=True, slots=True)
class StepShapes:
    """Sizes the steps are built for.

    Attributes:
        piece_tokens: Soft tokens of one piece of speech; one is 40 ms.
        closing_tokens: Most text tokens after a clip that go in one step with its end.
        read_tokens: Text tokens read, or soft tokens recalled, at once otherwise.
        buckets: Batch sizes of decode and hear.
        close_buckets: Batch sizes of close, read and recall.
    """

    piece_tokens: int = 8
    closing_tokens: int = 8
    read_tokens: int = 64
    buckets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    close_buckets: tuple[int, ...] = (1, 2, 4, 8)

    @property
    def slack_tokens(self) -> int:
        """Most tokens that one step writes into a row."""
        return max(self.piece_tokens + self.closing_tokens, self.read_tokens)


def build_ear(
    model: Any, plan: CachePlan, piece_tokens: int, text: TextWeights | None = None
) -> Ear:
    """Encoder and decoder over a transformers model, with the fastest operations it can have.

    Args:
        model: A `Gemma4ForConditionalGeneration`.
        plan: What its cache is to be.
        piece_tokens: Most soft tokens of a piece.
        text: Its text weights, if they were regrouped already.
    """
    text, audio = text or TextWeights.of(model), EncoderWeights.of(model)
    cache = Cache(text, plan)
    # One slot more for what padding writes.
    state = EncoderState.empty(audio, plan.slots + 1, piece_tokens)
    if text.embed.device.type != "cuda":
        return Ear(Encoder(audio), state, Decoder(text, cache))
    from agent.engine.gemma import audio_kernels, single, text_kernels  # noqa: PLC0415

    decoder = Decoder(text, cache, text_kernels, single.run_single)
    return Ear(Encoder(audio, audio_kernels), state, decoder)


@dataclass(slots=True)
class _Buffers:
    """A bucket's inputs, on the device and (pinned) on the host."""

    integers: Tensor
    text: Tensor
    mel: Tensor
    soft: Tensor
    host_integers: Tensor
    host_text: Tensor
    host_mel: Tensor
    host_soft: Tensor

    @classmethod
    def of(cls, rows: int, text: int, frames: int, bins: int, soft: int, embed: Tensor) -> _Buffers:
        pin = embed.device.type == "cuda"
        integers = torch.zeros(7, rows, dtype=torch.int64, pin_memory=pin)
        words = torch.zeros(rows, text, dtype=torch.int64, pin_memory=pin)
        mel = torch.zeros(rows, frames, bins, pin_memory=pin)
        softs = torch.zeros(rows, soft, embed.shape[1], dtype=embed.dtype, pin_memory=pin)

        def there(part: Tensor) -> Tensor:
            return part.to(embed.device, copy=True)

        return cls(
            there(integers), there(words), there(mel), there(softs), integers, words, mel, softs
        )

    def send(self) -> None:
        self.integers.copy_(self.host_integers, non_blocking=True)
        if self.host_text.numel():
            self.text.copy_(self.host_text, non_blocking=True)
        if self.host_mel.numel():
            self.mel.copy_(self.host_mel, non_blocking=True)
        if self.host_soft.numel():
            self.soft.copy_(self.host_soft, non_blocking=True)

    def rows(self) -> Rows:
        return Rows(self.integers[SLOT], self.integers[START], self.integers[COUNT])

    def clip(self) -> Clip:
        return Clip(self.integers[ENCODER_SLOT], self.integers[SEEN])


@dataclass(slots=True)
class _Bucket:
    """One step for one batch size."""

    buffers: _Buffers
    run: Callable[[], None]
    graph: Any = None

    def launch(self) -> None:
        self.buffers.send()
        if self.graph is None:
            self.run()
        else:
            self.graph.replay()

    def capture(self, pool: Any) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.run()
            self.run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            self.run()
        self.graph = graph


@dataclass
class Steps:
    """Everything an engine asks of the model, one call a step.

    `logits` and `best` hold the last predicting step's results: float32[rows, vocabulary]
    and the greedy tokens int64[rows], valid until the next such step. `soft` holds what the
    last step that heard made of it: [rows, piece_tokens, hidden], of each row the real ones first.

    Attributes:
        ear: What runs.
        shapes: Its sizes.
        suppress: Tokens that are never the greedy one.
    """

    ear: Ear
    shapes: StepShapes = field(default_factory=StepShapes)
    suppress: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        weights, self.device = self.ear.decoder.weights, self.ear.decoder.weights.embed.device
        rows = max(*self.shapes.buckets, *self.shapes.close_buckets)
        self.logits = torch.zeros(rows, weights.head.shape[0], device=self.device)
        self.best = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self.soft = weights.embed.new_zeros(rows, self.shapes.piece_tokens, weights.hidden)
        self._suppressed = torch.tensor(self.suppress, dtype=torch.int64, device=self.device)
        self._bins = self.ear.state.mel.shape[1]
        self._buckets: dict[tuple[str, int], _Bucket] = {}
        self._idle_slot = self.ear.decoder.cache.plan.slots
        self._captured = self.device.type == "cuda"

    @torch.no_grad()
    def prepare(self, progress: Progress = lambda _name, _done: None) -> dict[str, float]:
        """Capture every graph; nothing to do on the CPU.

        Returns:
            Seconds spent by step.
        """
        spent: dict[str, float] = {}
        if self.device.type != "cuda":
            return spent
        pool = torch.cuda.graph_pool_handle()
        # The biggest first: the others fit into the memory it leaves.
        wanted = [
            (name, size)
            for name in ("close", "read", "recall", "hear", "decode")
            for size in sorted(self._sizes(name), reverse=True)
        ]
        for index, (name, size) in enumerate(wanted):
            began = perf_counter()
            self._bucket(name, size).capture(pool)
            spent[name] = spent.get(name, 0.0) + perf_counter() - began
            progress(f"capturing {name} for {size}", (index + 1) / len(wanted))
        torch.cuda.synchronize()
        return spent

    def decode(self, slots: Sequence[int], starts: Sequence[int], tokens: Sequence[int]) -> None:
        """One token of every row in; `logits` and `best` of what follows out.

        Args:
            slots: Cache slots.
            starts: Tokens they hold.
            tokens: The tokens that come.
        """
        bucket = self._fill("decode", slots, starts, [1] * len(slots))
        bucket.buffers.host_integers[TOKEN, : len(slots)] = torch.tensor(tokens)
        self._launch(bucket)

    def read(
        self, slots: Sequence[int], starts: Sequence[int], texts: Sequence[Sequence[int]]
    ) -> None:
        """Write text into the rows, at most `read_tokens` each; nobody wants logits."""
        bucket = self._fill("read", slots, starts, [len(text) for text in texts])
        self._fill_text(bucket, texts)
        self._launch(bucket)

    def recall(self, slots: Sequence[int], starts: Sequence[int], softs: Sequence[Tensor]) -> None:
        """Write soft tokens that were kept into the rows; nobody wants logits.

        Args:
            slots, starts: As for `decode`.
            softs: At most `read_tokens` each, [tokens, hidden] on the host.
        """
        bucket = self._fill("recall", slots, starts, [len(soft) for soft in softs])
        for row, soft in enumerate(softs):
            bucket.buffers.host_soft[row, : len(soft)] = soft
        self._launch(bucket)

    def hear(
        self,
        slots: Sequence[int],
        starts: Sequence[int],
        mels: Sequence[Mel],
        encoder_slots: Sequence[int],
        seen: Sequence[int],
        writes: Sequence[bool] | None = None,
    ) -> None:
        """Hear one whole piece of every row's clip.

        Args:
            slots, starts: As for `decode`.
            mels: float32[4 * piece_tokens, bins] each.
            encoder_slots: Slots of the encoder's state.
            seen: Tokens of the clip before this piece.
            writes: False for rows whose cache has the piece already: only the encoder goes on.
        """
        piece = self.shapes.piece_tokens
        counts = [piece if write else 0 for write in writes or [True] * len(slots)]
        bucket = self._fill("hear", slots, starts, counts)
        self._fill_clips(bucket, mels, encoder_slots, seen)
        self._launch(bucket)

    def close(
        self,
        slots: Sequence[int],
        starts: Sequence[int],
        mels: Sequence[Mel],
        encoder_slots: Sequence[int],
        seen: Sequence[int],
        texts: Sequence[Sequence[int]],
    ) -> list[int]:
        """End every row's clip, write the text after it, predict what follows.

        Args:
            slots, starts, encoder_slots, seen: As for `hear`.
            mels: What is left of each clip, float32[fewer frames than a piece, bins].
            texts: At most `closing_tokens` token ids each, at least one.

        Returns:
            How many tokens were written into each row.
        """
        counts = [tokens_of(len(mel)) + len(text) for mel, text in zip(mels, texts, strict=True)]
        bucket = self._fill("close", slots, starts, counts)
        self._fill_clips(bucket, mels, encoder_slots, seen)
        self._fill_text(bucket, texts)
        self._launch(bucket)
        return counts

    @torch.no_grad()
    def _launch(self, bucket: _Bucket) -> None:
        bucket.launch()

    def _fill(
        self, name: str, slots: Sequence[int], starts: Sequence[int], counts: Sequence[int]
    ) -> _Bucket:
        count = len(slots)
        bucket = self._bucket(name, self._size(name, count))
        if self.device.type == "cuda":
            # The last launch may still be reading the pinned buffers.
            torch.cuda.current_stream().synchronize()
        host = bucket.buffers.host_integers
        host[:, count:] = 0
        host[ENCODER_SLOT, count:] = self._idle_slot
        host[:3, :count] = torch.tensor([list(slots), list(starts), list(counts)])
        return bucket

    def _fill_text(self, bucket: _Bucket, texts: Sequence[Sequence[int]]) -> None:
        for row, text in enumerate(texts):
            bucket.buffers.host_text[row, : len(text)] = torch.tensor(text)

    def _fill_clips(
        self,
        bucket: _Bucket,
        mels: Sequence[Mel],
        encoder_slots: Sequence[int],
        seen: Sequence[int],
    ) -> None:
        host, count = bucket.buffers.host_integers, len(mels)
        frames = [len(mel) for mel in mels]
        host[ENCODER_SLOT:, :count] = torch.tensor([list(encoder_slots), list(seen), frames])
        for row, mel in enumerate(mels):
            bucket.buffers.host_mel[row, : len(mel)] = torch.from_numpy(mel)

    def _size(self, name: str, count: int) -> int:
        if self.device.type != "cuda":
            return count
        sizes = self._sizes(name)
        for size in sizes:
            if size >= count:
                return size
        raise EngineError(f"a {name} step takes at most {max(sizes)} rows, not {count}")

    def _sizes(self, name: str) -> tuple[int, ...]:
        return self.shapes.buckets if name in {"hear", "decode"} else self.shapes.close_buckets

    def _bucket(self, name: str, size: int) -> _Bucket:
        if (name, size) not in self._buckets:
            shapes = self.shapes
            text = {"close": shapes.closing_tokens, "read": shapes.read_tokens}.get(name, 0)
            frames = shapes.piece_tokens * FRAMES_PER_TOKEN if name in {"close", "hear"} else 0
            soft = shapes.read_tokens if name == "recall" else 0
            embed = self.ear.decoder.weights.embed
            buffers = _Buffers.of(size, text, frames, self._bins, soft, embed)
            run = partial(getattr(self, f"_run_{name}"), buffers)
            self._buckets[name, size] = _Bucket(buffers, run)
        return self._buckets[name, size]

    def _run_decode(self, buffers: _Buffers) -> None:
        self._keep(self.ear.decoder.decode(buffers.integers[TOKEN], buffers.rows()))

    def _run_read(self, buffers: _Buffers) -> None:
        decoder, text = self.ear.decoder, buffers.text
        if not self._captured:
            text = text[:, : _most(buffers.integers[COUNT])]
        decoder.listen(decoder.embed(text), text, buffers.rows())

    def _run_recall(self, buffers: _Buffers) -> None:
        soft = buffers.soft
        if not self._captured:
            soft = soft[:, : _most(buffers.integers[COUNT])]
        self.ear.write(soft, buffers.rows())

    def _run_hear(self, buffers: _Buffers) -> None:
        keep = self.soft[: len(buffers.mel)]
        self.ear.hear(buffers.mel, buffers.clip(), buffers.rows(), keep)

    def _run_close(self, buffers: _Buffers) -> None:
        rows, frames = buffers.rows(), buffers.integers[FRAMES]
        mel, text = buffers.mel, buffers.text
        if not self._captured:
            heard = -(-frames // FRAMES_PER_TOKEN)
            mel = mel[:, : FRAMES_PER_TOKEN * _most(heard)]
            text = text[:, : _most(rows.counts - heard)]
        keep = self.soft[: len(mel), : mel.shape[1] // FRAMES_PER_TOKEN]
        self._keep(self.ear.close(mel, frames, buffers.clip(), text, rows, keep))

    def _keep(self, logits: Tensor) -> None:
        kept = self.logits[: len(logits)]
        kept.copy_(logits)
        if self.suppress:
            kept.index_fill_(1, self._suppressed, -torch.inf)
        torch.argmax(kept, 1, out=self.best[: len(logits)])


def _most(counts: Tensor) -> int:
    """How much of an input to compute where shapes need not be fixed: at least one."""
    return max(1, int(counts.max()))
