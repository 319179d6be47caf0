"""The encoder piece by piece against transformers' `get_audio_features` over the whole clip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from agent.audio.mel import MelParameters, StreamingMel  # noqa: E402
from agent.engine.gemma.encoder import Encoder, EncoderState, tokens_of  # noqa: E402
from agent.engine.gemma.weights import EncoderWeights  # noqa: E402
from tests.helpers.noise import noise  # noqa: E402
from tests.helpers.tiny_gemma import tiny_config, tiny_model, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)
EXTRACTOR = transformers.Gemma4AudioFeatureExtractor()
MEL = MelParameters.from_extractor(EXTRACTOR)
MODEL = tiny_model(tiny_config(tiny_tokenizer()))
ENCODER = Encoder(EncoderWeights.of(MODEL))


@torch.no_grad()
def offline(clip: np.ndarray) -> torch.Tensor:
    features = EXTRACTOR([clip], return_tensors="pt")
    out = MODEL.model.get_audio_features(
        features["input_features"], features["input_features_mask"], return_dict=True
    )
    return out.pooler_output[out.attention_mask]


@torch.no_grad()
def streamed(clips: list[np.ndarray], piece: int, state=None, slots=None) -> list[torch.Tensor]:
    """All clips together, each in its own row, pieces of `piece` tokens."""
    rows = len(clips)
    slots = torch.arange(rows) if slots is None else torch.tensor(slots)
    state = state or EncoderState.empty(ENCODER.weights, rows, piece)
    mels = [torch.from_numpy(StreamingMel(MEL).push(clip)) for clip in clips]
    size, out = 4 * piece, [[] for _ in clips]
    for at in range(0, max(len(mel) for mel in mels), size):
        live = [row for row in range(rows) if len(mels[row]) > at]
        batch = torch.full((len(live), size, MEL.bins), 7.0)  # what is not real must not matter
        frames = []
        for place, row in enumerate(live):
            part = mels[row][at : at + size]
            batch[place, : len(part)] = part
            frames.append(len(part))
        seen = torch.full((len(live),), at // 4)
        tokens = ENCODER.encode(state, batch, torch.tensor(frames), slots[live], seen)
        for place, row in enumerate(live):
            out[row].append(tokens[place, : tokens_of(frames[place])])
    return [torch.cat(parts) if parts else torch.zeros(0, 48) for parts in out]


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("piece", [1, 3, 8, 16])
def test_equals_the_whole_clip(piece):
    clip = noise(30_000)
    assert_close(streamed([clip], piece)[0], offline(clip))


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(500, 14_000), min_size=1, max_size=4),
    piece=st.sampled_from([1, 4, 8]),
)
def test_rows_of_any_lengths_do_not_disturb_each_other(lengths, piece):
    clips = [noise(length, seed) for seed, length in enumerate(lengths)]
    for actual, clip in zip(streamed(clips, piece), clips, strict=True):
        assert_close(actual, offline(clip))


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("blocks", [8, 9, 13])
def test_clips_at_the_edge_of_a_token(blocks, off):
    clip = noise(640 * blocks + off)
    assert_close(streamed([clip], 8)[0], offline(clip))


def test_a_slot_is_used_again_without_clearing():
    state = EncoderState.empty(ENCODER.weights, 3, 8)
    first, second = noise(12_000, 1), noise(9_000, 2)
    streamed([first], 8, state, [1])
    assert_close(streamed([second], 8, state, [1])[0], offline(second))


def test_a_piece_that_is_not_written_changes_nothing():
    state = EncoderState.empty(ENCODER.weights, 2, 8)
    streamed([noise(10_241)], 8, state, [1])
    kept = [part.clone() for part in (state.mel, state.subsampled, state.keys, state.conv)]
    with torch.no_grad():
        ENCODER.encode(
            state,
            torch.randn(1, 32, MEL.bins),
            torch.tensor([20]),
            torch.tensor([1]),
            torch.tensor([16]),
            write=False,
        )
    now = (state.mel, state.subsampled, state.keys, state.conv)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


def test_a_copied_slot_continues_the_same_clip():
    state = EncoderState.empty(ENCODER.weights, 2, 8)
    clip = noise(20_000)
    mel = torch.from_numpy(StreamingMel(MEL).push(clip))
    with torch.no_grad():
        ENCODER.encode(
            state, mel[None, :32], torch.tensor([32]), torch.tensor([0]), torch.tensor([0])
        )
        state.copy(0, 1)
        both = ENCODER.encode(
            state,
            mel[None, 32:64].repeat(2, 1, 1),
            torch.tensor([32, 32]),
            torch.tensor([0, 1]),
            torch.tensor([8, 8]),
        )
    assert_close(both[1], offline(clip)[8:16])
