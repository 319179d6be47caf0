"""The hub's worker thread, batches and shares; the scorer is a fake that keeps a record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.intake import AudioIntake
from agent.audio.pcm import AudioFormat, Encoding, Samples, encode
from agent.errors import InvalidEvent, LocalError
from agent.vad import hub as hub_module
from agent.vad.hub import FRAMES_PER_CALL, VadHub, VadStream
from agent.vad.scorers import Probabilities, Scorer, powers
from tests.helpers.patience import PATIENCE_S

PCM16_24K = AudioFormat(Encoding.PCM16, 24_000)
PCM16_16K = AudioFormat(Encoding.PCM16, 16_000)
PIECE_BYTES = PCM16_24K.bytes_per_second * 40 // 1000


class State:
    """How many frames of one session were scored."""

    def __init__(self) -> None:
        self.frames = 0


class RecordingScorer(Scorer[State]):
    """The score of a frame is its power, plus the number of the frame in its session.

    Attributes:
        batches: How many frames each call had.
        threads: Where it was called.
        fails: Raises when true.
        asked: It was called.
        may_go_on: Every call waits for it.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.fails = False
        self.asked = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def new_state(self) -> State:
        return State()

    def score(self, states: Sequence[State], frames: Samples) -> Probabilities:
        self.asked.set()
        assert self.may_go_on.wait(PATIENCE_S)
        assert frames.shape == (len(states), FRAME_SAMPLES)
        assert len({id(state) for state in states}) == len(states)
        if self.fails:
            raise RuntimeError("the model broke")
        self.batches.append(len(states))
        self.threads.add(threading.get_ident())
        numbers = np.array([state.frames for state in states], np.float32)
        for state in states:
            state.frames += 1
        return powers(frames) + numbers


@asynccontextmanager
async def running_hub(tick_ms: int = 5) -> AsyncIterator[tuple[VadHub, RecordingScorer]]:
    scorer = RecordingScorer()
    hub = VadHub(scorer, tick_ms)
    try:
        yield hub, scorer
    finally:
        scorer.may_go_on.set()
        await hub.close()


def audio(seconds: float, audio_format: AudioFormat = PCM16_24K, seed: int = 0) -> bytes:
    count = round(seconds * audio_format.rate_hz)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, count).astype(np.float32)
    return encode(samples, audio_format.encoding)


def expected_scores(samples: Samples) -> Probabilities:
    whole = np.pad(samples, (0, -samples.size % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    return powers(whole) + np.arange(len(whole), dtype=np.float32)


@pytest.mark.parametrize(
    "audio_format",
    [PCM16_24K, PCM16_16K, AudioFormat(Encoding.PCM16, 48_000), AudioFormat(Encoding.PCMU, 8_000)],
    ids=lambda f: f"{f.encoding}-{f.rate_hz}",
)
async def test_many_streams_get_what_their_intake_alone_would_give(
    audio_format: AudioFormat,
) -> None:
    async with running_hub(tick_ms=1) as (hub, _):

        async def session(seed: int) -> None:
            rng = np.random.default_rng(seed)
            data = audio(float(rng.uniform(0.5, 3.0)), audio_format, seed)
            stream, intake = hub.open_stream(), AudioIntake(audio_format)
            got = []
            start = 0
            while start < len(data):
                size = int(rng.choice([0, 40, 100, 700])) * audio_format.bytes_per_second // 1000
                samples, scores = await hub.score(stream, intake, data[start : start + size])
                assert samples.size == scores.size * FRAME_SAMPLES
                got.append((samples, scores))
                start += size
            got.append(await hub.flush(stream, intake))
            alone = AudioIntake(audio_format)
            expected = np.concatenate([alone.push(data), alone.flush()])
            samples = np.concatenate([piece for piece, _ in got])
            np.testing.assert_allclose(samples, expected, atol=1e-4)
            np.testing.assert_allclose(
                np.concatenate([scores for _, scores in got]), expected_scores(expected), atol=1e-4
            )

        await asyncio.gather(*(session(seed) for seed in range(30)))


async def test_requests_of_one_tick_are_scored_together_and_off_the_event_loop() -> None:
    async with running_hub() as (hub, scorer):
        sessions = [(hub.open_stream(), AudioIntake(PCM16_16K)) for _ in range(100)]
        frame = audio(FRAME_SAMPLES / 16_000, PCM16_16K)
        await asyncio.gather(*(hub.score(stream, intake, frame) for stream, intake in sessions))
        assert scorer.batches == [100]
        assert len(scorer.threads) == 1
        assert threading.get_ident() not in scorer.threads


async def test_calls_of_one_stream_are_done_in_order() -> None:
    async with running_hub() as (hub, scorer):
        stream, intake = hub.open_stream(), AudioIntake(PCM16_16K)
        data = audio(1.024, PCM16_16K)  # 32 frames
        pieces = [data[start : start + 2_048] for start in range(0, len(data), 2_048)]
        results = await asyncio.gather(*(hub.score(stream, intake, piece) for piece in pieces))
        joined = np.concatenate([samples for samples, _ in results])
        assert encode(joined, Encoding.PCM16) == data
        scores = np.concatenate([scores for _, scores in results])
        np.testing.assert_allclose(scores, expected_scores(joined), atol=1e-5)
        assert set(scorer.batches) == {1}


async def test_a_minute_at_once_delays_nobody() -> None:
    async with running_hub() as (hub, scorer):
        minute = asyncio.ensure_future(
            hub.score(hub.open_stream(), AudioIntake(PCM16_24K), audio(60))
        )
        live = [(hub.open_stream(), AudioIntake(PCM16_24K)) for _ in range(20)]
        worst = 0
        for index in range(10):
            before = sum(scorer.batches)
            pieces = [hub.score(*session, audio(0.04, seed=index)) for session in live]
            await asyncio.gather(*pieces)
            worst = max(worst, sum(scorer.batches) - before)
        assert not minute.done()
        # The worker's call in progress, and the one that has the pieces in it.
        assert worst <= 2 * FRAMES_PER_CALL
        samples, scores = await minute
        assert scores.size == samples.size // FRAME_SAMPLES >= 60 * 16_000 // FRAME_SAMPLES - 2


async def test_everybody_at_once_is_served_in_bounded_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    work = VadHub._work

    def counting_work(hub: VadHub, batch: Sequence[hub_module._Job]) -> None:
        before = sum(scorer.batches)
        work(hub, batch)
        calls.append(sum(scorer.batches) - before)

    monkeypatch.setattr(VadHub, "_work", counting_work)
    async with running_hub() as (hub, scorer):
        await asyncio.gather(
            *(
                hub.score(hub.open_stream(), AudioIntake(PCM16_24K), audio(2, seed=seed))
                for seed in range(150)
            )
        )
    assert sum(calls) >= 150 * 61
    assert max(calls) <= 1.5 * FRAMES_PER_CALL


async def test_half_a_sample_fails_that_call_alone() -> None:
    async with running_hub() as (hub, _):
        good = (hub.open_stream(), AudioIntake(PCM16_24K))
        bad = (hub.open_stream(), AudioIntake(PCM16_24K))
        good_result, bad_result = await asyncio.gather(
            hub.score(*good, audio(1)),
            hub.score(*bad, audio(1) + b"\0"),
            return_exceptions=True,
        )
        assert not isinstance(good_result, BaseException)
        assert isinstance(bad_result, InvalidEvent)
        assert bad[1].received_s == 0
        samples, scores = await hub.score(*bad, audio(1))
        assert scores.size == samples.size // FRAME_SAMPLES > 28


async def test_without_scoring_no_model_is_run() -> None:
    async with running_hub() as (hub, scorer):
        stream, intake = hub.open_stream(), AudioIntake(PCM16_24K)
        samples, scores = await hub.score(stream, intake, audio(1), scored=False)
        assert scores.tolist() == [0.0] * (samples.size // FRAME_SAMPLES)
        rest, rest_scores = await hub.flush(stream, intake, scored=False)
        assert samples.size + rest.size == 16_000
        assert rest_scores.tolist() == [0.0] * -(-rest.size // FRAME_SAMPLES)
        assert scorer.batches == []


async def test_a_failing_model_fails_its_calls_and_the_hub_goes_on() -> None:
    async with running_hub() as (hub, scorer):
        sessions = [(hub.open_stream(), AudioIntake(PCM16_24K)) for _ in range(3)]
        scorer.fails = True
        results = await asyncio.gather(
            *(hub.score(*session, audio(1)) for session in sessions), return_exceptions=True
        )
        assert [str(result) for result in results] == ["the model broke"] * 3
        scorer.fails = False
        _, scores = await hub.score(hub.open_stream(), AudioIntake(PCM16_24K), audio(1))
        assert scores.size > 28


class BrokenIntake(AudioIntake):
    """As a decoder is that meets what nobody thought of."""

    def push(self, data: bytes | memoryview) -> Samples:
        raise ZeroDivisionError("the intake broke")


async def test_audio_that_cannot_be_taken_in_fails_no_other_stream() -> None:
    async with running_hub() as (hub, _):
        good = (hub.open_stream(), AudioIntake(PCM16_24K))
        bad = (hub.open_stream(), BrokenIntake(PCM16_24K))
        good_result, bad_result = await asyncio.gather(
            hub.score(*good, audio(1)), hub.score(*bad, audio(1)), return_exceptions=True
        )
        assert not isinstance(good_result, BaseException)
        assert good_result[1].size > 28
        assert isinstance(bad_result, ZeroDivisionError)


async def test_a_cancelled_call_is_dropped() -> None:
    async with running_hub() as (hub, scorer):
        scorer.may_go_on.clear()
        given_up = asyncio.ensure_future(
            hub.score(hub.open_stream(), AudioIntake(PCM16_24K), audio(60))
        )
        other = asyncio.ensure_future(
            hub.score(hub.open_stream(), AudioIntake(PCM16_24K), audio(0.1))
        )
        await asyncio.to_thread(scorer.asked.wait, PATIENCE_S)
        given_up.cancel()
        scorer.may_go_on.set()
        _, scores = await other
        assert scores.size == 2
        assert given_up.cancelled()
        assert sum(scorer.batches) < 60


async def test_what_a_closed_stream_waits_for_fails() -> None:
    async with running_hub() as (hub, scorer):
        stream, intake = hub.open_stream(), AudioIntake(PCM16_24K)
        scorer.may_go_on.clear()
        call = asyncio.ensure_future(hub.score(stream, intake, audio(60)))
        await asyncio.to_thread(scorer.asked.wait, PATIENCE_S)
        hub.close_stream(stream)
        hub.close_stream(stream)
        with pytest.raises(LocalError, match="closed"):
            await call
        with pytest.raises(LocalError, match="closed"):
            await hub.score(stream, intake, b"")


async def test_close_fails_what_waits_and_frees_the_thread() -> None:
    async with running_hub() as (hub, scorer):
        scorer.may_go_on.clear()
        stream: VadStream = hub.open_stream()
        waiting = asyncio.ensure_future(hub.score(stream, AudioIntake(PCM16_24K), audio(60)))
        await asyncio.to_thread(scorer.asked.wait, PATIENCE_S)
        closing = asyncio.ensure_future(hub.close())
        await asyncio.sleep(0)
        scorer.may_go_on.set()
        await closing
        with pytest.raises(LocalError, match="closed"):
            await waiting
        with pytest.raises(LocalError, match="closed"):
            await hub.score(stream, AudioIntake(PCM16_24K), b"")
        assert not any(thread.name.startswith("vad") for thread in threading.enumerate())
        await hub.close()


async def test_close_waits_for_the_call_in_progress_and_hands_out_what_is_done() -> None:
    async with running_hub() as (hub, scorer):
        scorer.may_go_on.clear()
        last = asyncio.ensure_future(
            hub.score(hub.open_stream(), AudioIntake(PCM16_24K), audio(0.1))
        )
        await asyncio.to_thread(scorer.asked.wait, PATIENCE_S)
        closing = asyncio.ensure_future(hub.close())
        await asyncio.sleep(0)
        scorer.may_go_on.set()
        await closing
        assert (await last)[1].size == 2


async def test_a_hub_that_was_never_used_closes() -> None:
    hub = VadHub(RecordingScorer())
    await hub.close()
    with pytest.raises(LocalError):
        await hub.flush(hub.open_stream(), AudioIntake(PCM16_24K))


def test_a_piece_of_40_ms_fits_into_one_share() -> None:
    share_s = hub_module.MIN_FRAMES_PER_STREAM * FRAME_SAMPLES / 16_000
    assert PIECE_BYTES / PCM16_24K.bytes_per_second <= share_s
