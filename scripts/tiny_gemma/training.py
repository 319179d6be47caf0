"""Steps of training: the model's own parts, called so that a step can be a CUDA graph."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import Gemma4ForConditionalGeneration
from transformers.models.gemma4 import modeling_gemma4

from scripts.tiny_gemma.batches import batch
from scripts.tiny_gemma.dialogues import Maker
from scripts.tiny_gemma.shapes import BLANK, IGNORE, MAX_ORDINAL, SHAPES, Shape
from scripts.tiny_gemma.sound import Sound
from scripts.tiny_gemma.voices import Bank

COUNTING_LAYER = 2  # after it the ordinal of a digit should be known; the next keeps keys of it


class Whole(nn.Module):
    """The model and two heads that only help it to learn.

    One head reads from each soft token which digit has just ended, the other from the
    decoder how many of the turn have ended so far: what a reply must know to go on.
    """

    def __init__(self, model: Gemma4ForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        hidden = model.config.text_config.hidden_size
        self.digit_head = nn.Linear(hidden, BLANK + 1)
        self.ordinal_head = nn.Linear(hidden, MAX_ORDINAL + 1)
        # Most soft tokens end no digit.
        weight = torch.ones(BLANK + 1)
        weight[BLANK] = 0.2
        self.digit_weight = nn.Buffer(weight, persistent=False)
        self.parts = nn.Buffer(torch.tensor([1.0, 0.5, 0.2]), persistent=False)
        self._counted = torch.empty(0)
        layer = model.model.language_model.layers[COUNTING_LAYER]
        layer.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._counted = output

    def hear(self, mel: Tensor, mask: Tensor) -> Tensor:
        """Soft tokens, [clips, soft tokens, hidden]; as `get_audio_features`."""
        tower = self.model.model.audio_tower
        hidden = _subsampled(tower.subsample_conv_projection, mel, mask)
        positions = tower.rel_pos_enc(hidden)
        attention = _ear_mask(tower, hidden.shape[1], hidden.device)
        for layer in tower.layers:
            hidden = layer(hidden, attention_mask=attention, position_embeddings=positions)
        return self.model.model.embed_audio(inputs_embeds=tower.output_proj(hidden))

    def read(self, ids: Tensor, audio_index: Tensor, heard: Tensor) -> Tensor:
        """Last hidden states, [rows, tokens, hidden]."""
        language = self.model.model.language_model
        spoken = audio_index >= 0
        text = torch.where(spoken, 0, ids)
        embedded = language.embed_tokens(text)
        soft = _Placed.apply(heard.flatten(0, 1), audio_index.flatten())
        soft = soft.view(*ids.shape, -1).to(embedded.dtype)
        embedded = torch.where(spoken[..., None], soft, embedded)
        count = ids.shape[1]
        masks = _text_masks(count, language.config.sliding_window, ids.device)
        return language(
            inputs_embeds=embedded,
            per_layer_inputs=language.get_per_layer_inputs(text, embedded),
            attention_mask=masks,
            position_ids=torch.arange(count, device=ids.device)[None],
            use_cache=False,
        ).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """float32, soft-capped."""
        cap = self.model.config.text_config.final_logit_softcapping
        return torch.tanh(self.model.lm_head(hidden).float() / cap) * cap

    def loss(self, mel: Tensor, mask: Tensor, plan: dict[str, Tensor]) -> Tensor:
        """[3]: of the replies, of the digits, of the ordinals."""
        heard = self.hear(mel, mask)
        hidden = self.read(plan["ids"], plan["audio_index"], heard)
        logits = self.logits(hidden[:, :-1])
        reply = F.cross_entropy(
            logits.flatten(0, 1), plan["labels"][:, 1:].flatten().long(), ignore_index=IGNORE
        )
        digit = F.cross_entropy(
            self.digit_head(heard).float().flatten(0, 1),
            plan["events"].flatten().long(),
            weight=self.digit_weight,
            ignore_index=IGNORE,
        )
        ordinals = plan["ordinals"].flatten().long()
        counted = self.ordinal_head(self._counted).float().flatten(0, 1)
        self._counted = torch.empty(0)  # or it would keep the whole step alive
        # A batch without any event must not give 0 / 0.
        each = F.cross_entropy(counted, ordinals, ignore_index=IGNORE, reduction="sum")
        return torch.stack([reply, digit, each / (ordinals != IGNORE).sum().clamp(min=1)])


class _Placed(torch.autograd.Function):
    """Rows at an index, zero where it is -1; every row is wanted once at most.

    So the gradient is a look-up too. An ordinary index would add up the gradients of all
    places that want nothing, one after the other.
    """

    @staticmethod
    def forward(context: Any, rows: Tensor, index: Tensor) -> Tensor:
        wanted = index >= 0
        count = len(rows)
        places = torch.full((count + 1,), -1, device=index.device, dtype=torch.int64)
        target = torch.where(wanted, index, count).long()
        places.scatter_(0, target, torch.arange(len(index), device=index.device))
        context.save_for_backward(places[:count])
        return rows[index.clamp(min=0)] * wanted[:, None]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = context.saved_tensors
        return gradient[places.clamp(min=0)] * (places >= 0)[:, None], None


def _subsampled(front: nn.Module, mel: Tensor, mask: Tensor) -> Tensor:
    """As the model's own, channels last and without float32 copies: it is half of a step."""
    first, second = front.layer0, front.layer1
    padded = F.pad(mel * mask[..., None], (1, 1, 1, 1))
    # 9 values a patch, and 7 zeros: matrix units want a multiple of 8.
    patches = F.pad(padded.unfold(1, 3, 2).unfold(2, 3, 2).flatten(-2), (0, 7))
    hidden = F.linear(patches, F.pad(first.conv.weight.flatten(1), (0, 7)))
    with torch.autocast(hidden.device.type, enabled=False):
        scale = first.norm.weight.to(hidden.dtype)
        hidden = F.layer_norm(hidden, scale.shape, scale, None, first.norm.eps)
        hidden = F.relu(hidden) * mask[:, ::2, None, None].to(hidden.dtype)
        weight = second.conv.weight.to(hidden.dtype)
        hidden = F.conv2d(hidden.permute(0, 3, 1, 2), weight, stride=2, padding=1)
        hidden = hidden.permute(0, 2, 3, 1)
        scale = second.norm.weight.to(hidden.dtype)
        hidden = F.relu(F.layer_norm(hidden, scale.shape, scale, None, second.norm.eps))
    return front.input_proj_linear(hidden.flatten(2))


_MASKS: dict[tuple[Any, ...], Any] = {}


def _text_masks(count: int, window: int, device: torch.device) -> dict[str, Tensor]:
    key = ("text", count, window, device)
    if key not in _MASKS:
        at = torch.arange(count, device=device)
        back = at[:, None] - at[None, :]
        full, sliding = back >= 0, (back >= 0) & (back < window)
        _MASKS[key] = {"full_attention": full[None, None], "sliding_attention": sliding[None, None]}
    return _MASKS[key]  # type: ignore[no-any-return]


def _ear_mask(tower: nn.Module, count: int, device: torch.device) -> Tensor:
    key = ("ear", count, device)
    if key not in _MASKS:
        at = torch.arange(count, device=device)
        back = at[:, None] - at[None, :]
        seen = (back >= 0) & (back < tower.config.attention_context_left - 1)
        allowed = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
        _MASKS[key] = tower._convert_4d_mask_to_blocked_5d(allowed[None, None])
    return _MASKS[key]  # type: ignore[no-any-return]


def use_fused_norms() -> None:
    """One kernel for the norm in place of five; the same function."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        scale = self.weight.float() if self.with_scale else None
        return F.rms_norm(hidden.float(), hidden.shape[-1:], scale, self.eps).type_as(hidden)

    modeling_gemma4.Gemma4RMSNorm.forward = forward


class Batches(IterableDataset[dict[str, Tensor]]):
    """Endless batches of one shape; each worker has its own seed."""

    def __init__(self, tokenizer: Any, bank: Bank, shape: Shape, seed: int) -> None:
        self._tokenizer, self._bank, self._shape = tokenizer, bank, shape
        self._seed = seed

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        info = torch.utils.data.get_worker_info()
        seed = self._seed + 7919 * (info.id if info else 0)
        maker = Maker(self._tokenizer, self._bank, seed)
        while True:
            made = batch(maker, self._bank, self._shape)
            yield {name: torch.from_numpy(values) for name, values in made.items()}


class Step:
    """One step on batches of one shape: sound, loss, gradients, update.

    On a GPU it is captured once and replayed; on the CPU it is run.
    """

    def __init__(
        self, whole: Whole, sound: Sound, shape: Shape, optimiser: torch.optim.Optimizer
    ) -> None:
        self._whole, self._sound, self._shape, self._optimiser = whole, sound, shape, optimiser
        self._graph: torch.cuda.CUDAGraph | None = None
        self._plan: dict[str, Tensor] = {}
        self._losses = torch.zeros(3)
        self._device = next(whole.parameters()).device
        self.skipped = torch.zeros((), dtype=torch.int32, device=self._device)

    def _run(self) -> Tensor:
        with torch.no_grad():
            clean = self._sound.compose(self._plan, self._shape.samples)
            spoilt = self._sound.spoil(clean, self._plan["samples"])
            mel, mask = self._sound.mel(spoilt, self._plan["samples"])
        with torch.autocast(self._device.type, torch.bfloat16, cache_enabled=False):
            losses = self._whole.loss(mel, mask, self._plan)
        (losses * self._whole.parts).sum().backward()
        self._clip()
        self._optimiser.step()
        return losses.detach()

    def _clip(self) -> None:
        """Gradients of length 1 at most; none at all where one is not finite."""
        gradients = [p.grad for p in self._whole.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        finite = norm.isfinite()
        self.skipped += ~finite
        for gradient in gradients:
            torch.nan_to_num_(gradient, 0.0, 0.0, 0.0)
        torch._foreach_mul_(gradients, torch.where(finite, (1 / norm).clamp(max=1.0), 0.0))

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._optimiser.zero_grad(set_to_none=True)
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        self._optimiser.zero_grad(set_to_none=True)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads pin memory meanwhile, which is no business of this capture.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._losses = self._run()

    def __call__(self, plan: dict[str, Tensor]) -> Tensor:
        """Losses of this step, on the device; read them rarely."""
        if self._device.type == "cpu":
            self._plan = plan
            self._optimiser.zero_grad(set_to_none=True)
            return self._run()
        if self._graph is None:
            self._plan = {name: values.to(self._device) for name, values in plan.items()}
            self._capture()
        for name, values in plan.items():
            self._plan[name].copy_(values, non_blocking=True)
        assert self._graph is not None
        self._graph.replay()
        return self._losses


def rate_at(progress: float, peak: float) -> float:
    """Learning rate: a short rise, then a half cosine down to a hundredth."""
    if progress < 0.03:
        return peak * (progress + 0.001) / 0.031
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - 0.03) / 0.97)))


def mixture_at(progress: float, started: float) -> dict[str, float]:
    """How often which shape is drawn: single turns first, then conversations and long clips."""
    late = min(1.0, max(0.0, (progress + started - 0.1) / 0.3))
    return {"one": 1.0 - 0.85 * late, "some": 0.55 * late, "long": 0.3 * late}


def train(
    whole: Whole,
    sound: Sound,
    bank: Bank,
    tokenizer: Any,
    *,
    seconds: float,
    peak: float,
    workers: int,
    seed: int,
    started: float = 0.0,
    shapes: dict[str, Shape] | None = None,
) -> int:
    """Train for a time; prints how it goes. Returns the number of steps."""
    shapes = shapes or SHAPES
    device = next(whole.parameters()).device
    on_gpu = device.type == "cuda"
    rate = torch.tensor(0.0, device=device) if on_gpu else 0.0
    optimiser = torch.optim.AdamW(
        whole.parameters(),
        lr=rate,
        betas=(0.9, 0.98),
        weight_decay=0.02,
        fused=on_gpu,
        capturable=on_gpu,
    )
    steps = {name: Step(whole, sound, shape, optimiser) for name, shape in shapes.items()}
    share = {"one": 0.25, "some": 0.5, "long": 0.25}
    streams = {
        name: iter(
            DataLoader(
                Batches(tokenizer, bank, shape, seed * 100 + index),
                batch_size=None,
                num_workers=max(1, round(workers * share[name])) if workers else 0,
                pin_memory=on_gpu,
                prefetch_factor=4 if workers else None,
            )
        )
        for index, (name, shape) in enumerate(shapes.items())
    }
    random = np.random.default_rng(seed)
    began = time.monotonic()
    count, shown, sums, waited = 0, began, {}, 0.0
    while (now := time.monotonic()) - began < seconds:
        progress = (now - began) / seconds
        for group in optimiser.param_groups:
            if on_gpu:
                group["lr"].fill_(rate_at(progress, peak))
            else:
                group["lr"] = rate_at(progress, peak)
        odds = mixture_at(progress, started)
        name = str(random.choice(list(odds), p=list(odds.values())))
        asked = time.monotonic()
        plan = next(streams[name])
        waited += time.monotonic() - asked
        losses = steps[name](plan)
        total, number = sums.get(name, (torch.zeros(3, device=device), 0))
        sums[name] = (total + losses, number + 1)
        count += 1
        if on_gpu and count % 8 == 0:
            torch.cuda.synchronize()  # keeps the clock honest and the queue short
        if now - shown > 5:
            text = "  ".join(
                f"{kind} x{number} "
                + "/".join(f"{value:.3f}" for value in (total / number).tolist())
                for kind, (total, number) in sorted(sums.items())
            )
            skipped = sum(int(step.skipped) for step in steps.values())
            print(
                f"{now - began:6.1f} s  step {count:6d}  waited {waited:.1f} s  "
                f"skipped {skipped}  {text}",
                flush=True,
            )
            shown, sums = now, {}
            if skipped > count // 3 > 30:
                raise RuntimeError("training diverges: too many steps had no finite gradient")
    return count
