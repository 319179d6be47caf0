"""Smart Turn itself: its probabilities, and turns it ends in a real session."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import soxr

from agent.audio.pcm import Samples, encode_pcm16
from agent.config import ScorerName, Settings
from agent.errors import ConfigError, ModelStoreError
from agent.gateway.driver import SessionDriver
from agent.gateway.services import Services, SessionQuery
from agent.metrics import Metrics
from agent.turns.hub import TurnHub
from agent.turns.scorers import TURN_SAMPLES, SmartTurnScorer, TurnScorer, smart_turn_path
from agent.vad.hub import VadHub
from agent.vad.scorers import make_scorer, one_thread_session, silero_model_path
from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.speech import PIECE_BYTES, PIECE_S, recording, recordings
from tests.integration.test_driver import MemoryTransport

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def smart_turn() -> SmartTurnScorer:
    try:
        silero_model_path()
        return SmartTurnScorer(smart_turn_path())
    except (ConfigError, ModelStoreError) as error:
        pytest.skip(str(error))


def test_probabilities_are_those_of_the_extractor_of_transformers(smart_turn) -> None:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(chunk_length=8)
    network = one_thread_session(smart_turn_path(), "Smart Turn", setting="turns.scorer")
    for clip in recordings()[:4]:
        samples = np.concatenate([clip.samples(), np.zeros(3_200, np.float32)])[-TURN_SAMPLES:]
        padded = np.pad(samples, (TURN_SAMPLES - len(samples), 0))
        features = extractor(
            padded, sampling_rate=16_000, return_tensors="np", do_normalize=True
        ).input_features
        (expected,) = network.run(None, {"input_features": features.astype(np.float32)})
        # A feature that rounds to another of 256 steps changes a little more than it did itself.
        assert smart_turn.score(samples) == pytest.approx(float(expected[0, 0]), abs=5e-3)


def test_no_processor_saturates_the_sums_of_the_quantised_network(smart_turn, monkeypatch) -> None:
    """Against the same network in floats; saturated sums differ by 0.7 in one clip."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(str(smart_turn_path()), options)
    clips = [clip.samples() for clip in recordings()]
    scores = np.array([smart_turn.score(clip) for clip in clips])
    monkeypatch.setattr(smart_turn, "_session", plain)
    expected = np.array([smart_turn.score(clip) for clip in clips])
    differences = np.abs(scores - expected)
    assert differences.max() < 0.35
    assert differences.mean() < 0.08


def test_whole_sentences_are_likelier_over_than_halves(smart_turn) -> None:
    silence = np.zeros(3_200, np.float32)

    def mean_score(share: float) -> float:
        clips = [clip.samples() for clip in recordings()[:8]]
        cut = [clip[: int(len(clip) * share)] for clip in clips]
        return float(np.mean([smart_turn.score(np.concatenate([clip, silence])) for clip in cut]))

    assert mean_score(1.0) > mean_score(0.5) + 0.1


class FixedScorer(TurnScorer):
    """Always of the same opinion."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def score(self, samples: Samples) -> float:
        del samples
        return self.probability


async def silence_before_the_end(scorer: TurnScorer | None, metrics: Metrics) -> float:
    """Seconds of silence after a real recording until its turn ended, on the sample clock."""
    clip = recording(at_least_s=2.0, at_most_s=4.0).samples()
    wire = soxr.resample(clip, 16_000, 24_000)
    speech = encode_pcm16(np.concatenate([np.zeros(24_000, np.float32), wire]))
    transport = MemoryTransport()
    hub = VadHub(make_scorer(ScorerName.SILERO))
    turns = None if scorer is None else TurnHub(scorer, metrics)
    services = Services(Settings(), ScriptedEngine(), hub, metrics, turns)
    query = SessionQuery(extensions=frozenset({"timings"}))
    running = asyncio.create_task(SessionDriver("sess_1", transport, services, query).run())
    detection = {"type": "semantic_vad", "eagerness": "low", "create_response": False}
    audio = {"input": {"turn_detection": detection}}
    transport.say(type="session.update", session={"type": "realtime", "audio": audio})
    await transport.until("session.updated")
    for at in range(0, len(speech), PIECE_BYTES):
        transport.incoming.put_nowait(speech[at : at + PIECE_BYTES])
    ended: dict[str, Any] = {}
    while not ended:
        transport.incoming.put_nowait(bytes(PIECE_BYTES))
        # Slower than the real model answers, so that no silence is sent in vain.
        await asyncio.sleep(PIECE_S)
        while not transport.sent.empty():
            event = transport.sent.get_nowait()
            if event["type"] == "voice_agent.turn.timings":
                ended["speech_end_ms"] = event["speech_end_ms"]
            elif event["type"] == "input_audio_buffer.speech_stopped":
                ended["audio_end_ms"] = event["audio_end_ms"]
    await transport.close(1000, "")
    await running
    await hub.close()
    if turns is not None:
        turns.close()
    return (ended["audio_end_ms"] - ended["speech_end_ms"]) / 1000


@pytest.mark.parametrize(
    ("scorer", "at_least_s", "at_most_s"),
    [
        # Whenever the score comes, it comes before the fixed wait is over.
        (FixedScorer(0.99), 0.25, 1.4),
        (FixedScorer(0.5), 2.0, 4.0),
        (None, 1.5, 1.54),
    ],
    ids=["surely over", "unsure", "no turn detector"],
)
async def test_what_is_thought_of_a_pause_decides_how_long_it_lasts(
    smart_turn, scorer, at_least_s, at_most_s
) -> None:
    del smart_turn
    assert at_least_s <= await silence_before_the_end(scorer, Metrics()) <= at_most_s


async def test_the_real_model_judges_the_pauses_of_a_session(smart_turn) -> None:
    metrics = Metrics()
    assert await silence_before_the_end(smart_turn, metrics) <= 8.1
    value = metrics.registry.get_sample_value
    assert value("voice_agent_turn_scores_total", {"outcome": "made"}) >= 1
    assert value("voice_agent_turn_score_seconds_count") >= 1
