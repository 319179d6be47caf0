"""The steps as an engine calls them, on the CPU; the same file runs captured on a GPU."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.audio.mel import MelParameters, StreamingMel  # noqa: E402
from agent.engine.gemma.cache import CachePlan  # noqa: E402
from agent.engine.gemma.graphs import Steps, StepShapes, build_ear  # noqa: E402
from tests.helpers import gemma_oracle as oracle  # noqa: E402
from tests.helpers.tiny_gemma import tiny_config, tiny_model, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = StepShapes(read_tokens=16, buckets=(1, 4), close_buckets=(1, 2))
MEL = MelParameters.from_extractor(oracle.EXTRACTOR)


def test_two_speakers_hear_close_and_answer_like_generate():
    reference = tiny_model(tiny_config(tiny_tokenizer()), seed=5)
    model = tiny_model(tiny_config(tiny_tokenizer()), seed=5).to(DEVICE)
    config = model.config
    plan = CachePlan(4, 256, 2, SHAPES.slack_tokens)
    suppress = tuple(oracle.placeholders(model))
    steps = Steps(build_ear(model, plan, SHAPES.piece_tokens), SHAPES, suppress)
    steps.prepare()
    cache = steps.ear.decoder.cache
    opening = [2, 4, 91, 60, config.boa_token_id]
    closing = [config.eoa_token_index, 5, 60, 4, 90, 60]
    rng = np.random.default_rng(0)
    clips = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (17_000, 11_000)]
    slots = [cache.allocate() for _ in clips]
    starts = [0, 0]
    steps.read(slots, starts, [opening, opening])
    starts = [len(opening)] * 2
    mels = [StreamingMel(MEL).push(clip) for clip in clips]
    seen = [0, 0]
    for piece in range(3):
        live = [row for row in (0, 1) if len(mels[row]) >= 32 * (piece + 1)]
        steps.hear(
            [slots[row] for row in live],
            [starts[row] for row in live],
            [mels[row][32 * piece : 32 * (piece + 1)] for row in live],
            [slots[row] for row in live],
            [seen[row] for row in live],
        )
        for row in live:
            starts[row] += 8
            seen[row] += 8
    rest = [mel[4 * tokens :] for mel, tokens in zip(mels, seen, strict=True)]
    written = steps.close(slots, starts, rest, slots, seen, [closing, closing])
    starts = [start + count for start, count in zip(starts, written, strict=True)]
    answers = [[token] for token in steps.best[:2].tolist()]
    for _ in range(9):
        steps.decode(slots, starts, [tokens[-1] for tokens in answers])
        starts = [start + 1 for start in starts]
        for tokens, token in zip(answers, steps.best[:2].tolist(), strict=True):
            tokens.append(token)
    for clip, tokens in zip(clips, answers, strict=True):
        prompt = oracle.Prompt(opening[:-1]).clip(clip, config).text(closing[1:])
        assert tokens == oracle.greedy(reference, prompt, 10)
