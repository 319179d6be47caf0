"""Hearing in pieces against transformers' `generate` on the same conversation in one prompt."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.audio.mel import MelParameters, StreamingMel  # noqa: E402
from agent.engine.gemma.cache import Cache, CachePlan  # noqa: E402
from agent.engine.gemma.ear import Clip, Ear  # noqa: E402
from agent.engine.gemma.encoder import Encoder, EncoderState, tokens_of  # noqa: E402
from agent.engine.gemma.steps import Decoder  # noqa: E402
from agent.engine.gemma.text_ops import Rows  # noqa: E402
from agent.engine.gemma.text_weights import TextWeights  # noqa: E402
from agent.engine.gemma.weights import EncoderWeights  # noqa: E402
from tests.helpers import gemma_oracle as oracle  # noqa: E402
from tests.helpers.noise import noise  # noqa: E402
from tests.helpers.tiny_gemma import tiny_config, tiny_model, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)
MODEL = tiny_model(tiny_config(tiny_tokenizer()), seed=3)
CONFIG = MODEL.config
MEL = MelParameters.from_extractor(oracle.EXTRACTOR)
PIECE = 8
CLOSING = [CONFIG.eoa_token_index, 5, 60, 4, 90, 60]
OPENING = [2, 4, 91, 60, CONFIG.boa_token_id]


class Listener:
    """Conversations in one cache, each spoken to piece by piece."""

    def __init__(self, slots: int = 8, slot_tokens: int = 512) -> None:
        weights, encoder = TextWeights.of(MODEL), EncoderWeights.of(MODEL)
        self.cache = Cache(weights, CachePlan(slots, slot_tokens, 2, 16))
        state = EncoderState.empty(encoder, slots, PIECE)
        self.ear = Ear(Encoder(encoder), state, Decoder(weights, self.cache))
        self.slots = slots

    def rows(self, slots: list[int], counts: list[int]) -> Rows:
        starts = [self.cache.length(slot) for slot in slots]
        return Rows(torch.tensor(slots), torch.tensor(starts), torch.tensor(counts))

    def advance(self, slots: list[int], counts: list[int]) -> None:
        for slot, count in zip(slots, counts, strict=True):
            self.cache.advance(slot, count)

    @torch.no_grad()
    def read(self, slot: int, ids: list[int]) -> None:
        for at in range(0, len(ids), 16):
            part = torch.tensor([ids[at : at + 16]])
            rows = self.rows([slot], [part.shape[1]])
            self.ear.decoder.listen(self.ear.decoder.embed(part), part, rows)
            self.advance([slot], [part.shape[1]])

    @torch.no_grad()
    def listen(self, clips: dict[int, np.ndarray]) -> torch.Tensor:
        """All clips together, whoever still speaks in one step; then close all of them."""
        mels = {
            slot: torch.from_numpy(StreamingMel(MEL).push(clip)) for slot, clip in clips.items()
        }
        size = 4 * PIECE
        for at in range(0, max(len(mel) for mel in mels.values()), size):
            live = [slot for slot, mel in mels.items() if len(mel) >= at + size]
            if live:
                batch = torch.stack([mels[slot][at : at + size] for slot in live])
                clip = Clip(torch.tensor(live), torch.full((len(live),), at // 4))
                self.ear.hear(batch, clip, self.rows(live, [PIECE] * len(live)))
                self.advance(live, [PIECE] * len(live))
        slots = list(clips)
        rest = torch.full((len(slots), size, MEL.bins), 9.0)
        frames = [len(mels[slot]) % size for slot in slots]
        for row, slot in enumerate(slots):
            rest[row, : frames[row]] = mels[slot][len(mels[slot]) - frames[row] :]
        counts = [tokens_of(count) + len(CLOSING) for count in frames]
        text = torch.tensor([[*CLOSING, 11, 12]] * len(slots))  # padded, as a bucket would be
        seen = torch.tensor([len(mels[slot]) // size * PIECE for slot in slots])
        clip = Clip(torch.tensor(slots), seen)
        out = self.ear.close(rest, torch.tensor(frames), clip, text, self.rows(slots, counts))
        self.advance(slots, counts)
        return out

    @torch.no_grad()
    def answer(self, slots: list[int], logits: torch.Tensor, count: int) -> list[list[int]]:
        out = [[oracle.best(MODEL, row)] for row in logits]
        for _ in range(count - 1):
            rows = self.rows(slots, [1] * len(slots))
            step = self.ear.decoder.decode(torch.tensor([ids[-1] for ids in out]), rows)
            self.advance(slots, [1] * len(slots))
            for ids, row in zip(out, step, strict=True):
                ids.append(oracle.best(MODEL, row))
        return out


def spoken(prompt: oracle.Prompt, clip: np.ndarray) -> oracle.Prompt:
    """A heard turn: `CLOSING` begins with the end of audio, which `clip` adds already."""
    prompt.ids.pop()
    return prompt.clip(clip, CONFIG).text(CLOSING[1:])


@pytest.mark.parametrize("blocks", [1, 8, 24])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_clips_at_the_edge_of_a_token(blocks, off):
    listener, clip = Listener(), noise(640 * blocks + off)
    slot = listener.cache.allocate()
    listener.read(slot, OPENING)
    tokens = listener.answer([slot], listener.listen({slot: clip}), 12)[0]
    assert tokens == oracle.greedy(MODEL, spoken(oracle.Prompt(list(OPENING)), clip), 12)


def test_eight_interleaved_conversations_of_two_turns():
    listener = Listener()
    lengths = [9_000, 5_121, 700, 20_480, 31_000, 161, 12_345, 5_120]
    slots = [listener.cache.allocate() for _ in lengths]
    prompts = {slot: oracle.Prompt() for slot in slots}
    for turn in range(2):
        clips = {slot: noise(lengths[(slot + turn) % 8], slot + 10 * turn) for slot in slots}
        for slot in slots:
            opening = OPENING if turn == 0 else [5, 60, *OPENING[1:]]
            listener.read(slot, opening)
            prompts[slot] = spoken(prompts[slot].text(list(opening)), clips[slot])
        answers = listener.answer(slots, listener.listen(clips), 10)
        for slot, tokens in zip(slots, answers, strict=True):
            assert tokens == oracle.greedy(MODEL, prompts[slot], 10)
            # The last token was sampled and never written.
            prompts[slot].text(tokens[:-1])


def test_a_pause_that_was_not_the_end_leaves_no_trace():
    listener, clip = Listener(), noise(20_000)
    slot = listener.cache.allocate()
    listener.read(slot, OPENING)
    with torch.no_grad():
        mel = torch.from_numpy(StreamingMel(MEL).push(clip))
        one, seen = torch.tensor([slot]), torch.tensor([0])
        listener.ear.hear(mel[None, :32], Clip(one, seen), listener.rows([slot], [PIECE]))
        listener.advance([slot], [PIECE])
        fork = listener.cache.fork(slot)
        early = mel[None, 32:64].clone()
        rows = listener.rows([fork], [3 + len(CLOSING)])
        where = Clip(one, torch.tensor([8]))
        listener.ear.close(early, torch.tensor([11]), where, torch.tensor([CLOSING]), rows)
        listener.cache.free(fork)
        rest = mel[32:]
        for at in (0, 32):
            where = Clip(one, torch.tensor([8 + at // 4]))
            piece = rest[None, at : at + 32]
            listener.ear.hear(piece, where, listener.rows([slot], [PIECE]))
            listener.advance([slot], [PIECE])
        last = torch.zeros(1, 32, MEL.bins)
        count = len(rest) - 64
        last[0, :count] = rest[64:]
        counts = [tokens_of(count) + len(CLOSING)]
        where, text = Clip(one, torch.tensor([24])), torch.tensor([CLOSING])
        rows = listener.rows([slot], counts)
        logits = listener.ear.close(last, torch.tensor([count]), where, text, rows)
        listener.advance([slot], counts)
    tokens = listener.answer([slot], logits, 10)[0]
    assert tokens == oracle.greedy(MODEL, spoken(oracle.Prompt(list(OPENING)), clip), 10)


@pytest.mark.slow
def test_one_item_of_four_clips_and_95_seconds():
    listener = Listener(2, 4096)
    slot, prompt = listener.cache.allocate(), oracle.Prompt()
    opening = list(OPENING)
    for part, length in enumerate([400_000, 464_000, 464_001, 192_000]):
        clip = noise(length, part)
        listener.read(slot, opening)
        logits = listener.listen({slot: clip})
        prompt = spoken(prompt.text(list(opening)), clip)
        opening = [CONFIG.boa_token_id]
    tokens = listener.answer([slot], logits, 12)[0]
    assert tokens == oracle.greedy(MODEL, prompt, 12)
