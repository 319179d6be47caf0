"""The driver between a scripted engine and a connection in memory."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from agent.audio.pcm import Samples, encode_pcm16
from agent.config import ScorerName, Settings
from agent.engine.contract import Committed
from agent.gateway.driver import SessionDriver
from agent.gateway.inbox import Inbox
from agent.gateway.services import Services, SessionQuery
from agent.gateway.transport import TransportClosed
from agent.metrics import Metrics
from agent.vad.hub import VadHub
from agent.vad.scorers import make_scorer
from tests.helpers.patience import PATIENCE_S
from tests.helpers.scripted_engine import ScriptedConversation, ScriptedEngine

PIECE_SAMPLES = 960  # 40 ms at 24 kHz


class CountingConversation(ScriptedConversation):
    """Notes how many samples each committed utterance had."""

    committed_samples: list[int]

    def commit(
        self, item_id: str, after: str | None = None, *, head: bool = False
    ) -> Awaitable[Committed]:
        assert self.utterance is not None
        self.committed_samples.append(sum(clip.samples.size for clip in self.utterance.clips))
        return super().commit(item_id, after, head=head)


class CountingEngine(ScriptedEngine):
    """Opens conversations that count."""

    def __init__(self) -> None:
        super().__init__()
        self.committed_samples: list[int] = []

    def open(self, settings, history=()):
        conversation = CountingConversation(self.options, settings, history)
        conversation.committed_samples = self.committed_samples
        return conversation


class MemoryTransport:
    """Gives what the test puts in and keeps what the driver sends."""

    name = "memory"
    intake = None

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.closed_with: int | None = None
        self.is_clear = True
        self.is_unread = False
        self.audio_waits_since: float | None = None
        self.on_clear: Callable[[], None] | None = None

    @property
    def has_unread(self) -> bool:
        return self.is_unread or not self.incoming.empty()

    async def receive(self) -> str | bytes:
        message = await self.incoming.get()
        if message is None:
            raise TransportClosed(1000, by_peer=True)
        return message

    async def send(self, event: Mapping[str, object]) -> None:
        self.sent.put_nowait(dict(event))
        if self.is_clear and self.on_clear is not None:
            self.on_clear()

    async def close(self, code: int, reason: str) -> None:
        del reason
        self.closed_with = code
        self.incoming.put_nowait(None)

    def speak(self, samples: Samples) -> None:
        """Send audio, in pieces."""
        for start in range(0, len(samples), PIECE_SAMPLES):
            self.incoming.put_nowait(encode_pcm16(samples[start : start + PIECE_SAMPLES]))

    def say(self, **event: Any) -> None:
        self.incoming.put_nowait(json.dumps(event))

    async def until(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = await self.sent.get()
                assert event["type"] != "error", event
                if event["type"] == kind:
                    return event


@asynccontextmanager
async def driven(
    engine: ScriptedEngine,
    metrics: Metrics | None = None,
    query: SessionQuery | None = None,
    **settings: Any,
) -> AsyncIterator[MemoryTransport]:
    """A session over a transport in memory."""
    transport, hub = MemoryTransport(), VadHub(make_scorer(ScorerName.WEBRTC))
    services = Services(Settings(**settings), engine, hub, metrics or Metrics())
    running = asyncio.create_task(
        SessionDriver("sess_1", transport, services, query or SessionQuery()).run()
    )
    yield transport
    await transport.close(1000, "")
    await running
    await hub.close()


@pytest.mark.parametrize(
    ("rate_hz", "detection"),
    [(24_000, None), (16_000, None), (48_000, None), (24_000, {"type": "server_vad"})],
)
async def test_a_commit_hears_the_last_sample_that_was_sent(rate_hz: int, detection: Any) -> None:
    """Also what does not fill a frame, and what the resampler still holds back."""
    assert await heard_of_a_buzz(rate_hz, detection, commit=True)


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 48_000])
async def test_a_turn_whose_audio_stops_coming_hears_the_last_sample(rate_hz: int) -> None:
    """What the resampler holds back must not begin the next turn."""
    assert await heard_of_a_buzz(rate_hz, {"type": "server_vad"}, commit=False)


@pytest.mark.parametrize("translates", [True, False])
async def test_audio_that_waited_long_is_not_taken_for_the_last_that_comes(
    monkeypatch: pytest.MonkeyPatch, translates: bool
) -> None:
    """Behind a backlog all that comes is old; whoever sends it may be waiting for us."""
    put = Inbox.put
    monkeypatch.setattr(Inbox, "put", lambda box, message, now: put(box, message, now - 30))
    engine, query = CountingEngine(), SessionQuery(translates=translates)
    async with driven(engine, query=query, vad={"silence_duration_ms": 2000}) as transport:
        await transport.until("session.created")
        for _ in range(3):
            transport.speak(buzz(0.5))
            await asyncio.sleep(0.1)  # all is heard; more comes before any limit
        transport.speak(np.zeros(3 * 24_000, np.float32))
        answer = "session.output_transcript.delta" if translates else "response.done"
        await transport.until(answer)
    assert len(engine.committed_samples) == 1
    assert engine.committed_samples[0] >= 1.5 * 16_000


async def heard_of_a_buzz(rate_hz: int, detection: Any, *, commit: bool) -> bool:
    """Whether a turn of 1.2345 s was heard to its last sample."""
    engine = CountingEngine()
    async with driven(engine) as transport:
        audio_format = {"type": "audio/pcm", "rate": rate_hz}
        audio = {"input": {"format": audio_format, "turn_detection": detection}}
        transport.say(type="session.update", session={"audio": audio})
        await transport.until("session.updated")
        samples = buzz(1.2345, rate_hz)
        transport.speak(samples)
        if commit:
            transport.say(type="input_audio_buffer.commit")
        await transport.until("input_audio_buffer.committed")
    (heard,) = engine.committed_samples
    return abs(heard - len(samples) * 16_000 / rate_hz) <= 1


def buzz(duration_s: float, rate_hz: int = 24_000) -> Samples:
    """A buzz with overtones, which WebRTC's detector takes for a voice from its first frame."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    wave = sum(np.sin(2 * np.pi * 150 * n * time_s) / n for n in range(1, 20))
    return (0.2 * wave).astype(np.float32)


async def test_a_transcription_session_shows_words_and_leaves_nothing_in_the_engine() -> None:
    engine, metrics = ListingEngine(), Metrics()
    turns = 30
    async with driven(engine, metrics, SessionQuery(intent="transcription")) as transport:
        created = await transport.until("session.created")
        assert created["session"]["object"] == "realtime.transcription_session"
        kinds = []
        for _ in range(turns):
            # Two passes and the silence that ends the turn; passes are spaced by new speech.
            transport.speak(np.concatenate([buzz(2.5), np.zeros(24_000, np.float32)]))
            shown = ""
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    event = await transport.sent.get()
                    kinds.append(event["type"].rpartition(".")[2])
                    if kinds[-1] == "delta":
                        shown += event["delta"]
                    elif kinds[-1] == "completed":
                        break
            assert shown == event["transcript"] != ""
    assert kinds.count("committed") == turns
    assert not any(kind.startswith("response") for kind in kinds)
    (conversation,) = engine.opened
    assert conversation.history.items == ()
    assert conversation.captions >= turns
    (passes,) = metrics.passes.collect()
    counted = [one.value for one in passes.samples if one.name.endswith("_total")]
    assert sum(counted) == conversation.captions


class ListingEngine(ScriptedEngine):
    """Keeps the conversations it opened, and counts their branches on open utterances."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[Any] = []

    def open(self, settings, history=()):
        conversation = ListingConversation(self.options, settings, history)
        self.opened.append(conversation)
        return conversation


class ListingConversation(ScriptedConversation):
    """See `ListingEngine`."""

    captions = 0

    def branch(self, request):
        self.captions += request.item_id is None
        return super().branch(request)


@pytest.mark.parametrize(
    ("early", "outcomes"),
    [
        ({}, {"begun": 1, "kept": 1}),
        ({"work": "recognition"}, {}),
        ({"max_backlog_s": 0.0, "max_running": 1}, {"begun": 1, "kept": 1}),
    ],
    ids=str,
)
async def test_an_answer_begun_at_the_pause_is_kept_and_counted(
    early: dict[str, Any], outcomes: dict[str, int]
) -> None:
    metrics = Metrics()
    async with driven(ScriptedEngine(), metrics, early=early) as transport:
        transport.speak(np.concatenate([buzz(1.0), np.zeros(24_000, np.float32)]))
        text = (await transport.until("response.output_text.done"))["text"]
        await transport.until("response.done")
        transport.say(type="conversation.item.create", item=typed("last", "history"))
        transport.say(type="response.create")
        history = (await transport.until("response.output_text.done"))["text"]
    spoken, answer, _ = (entry.split() for entry in history.split(" | "))
    assert spoken[1] == "user"
    assert answer[1:] == ["assistant", *text.split()]
    assert counted(metrics) == outcomes


async def test_nothing_is_begun_early_while_the_engine_is_busy() -> None:
    metrics = Metrics()
    async with driven(ScriptedEngine(), metrics, early={"max_running": 1}) as transport:
        transport.say(type="conversation.item.create", item=typed("q", "hang"))
        transport.say(type="response.create", response={"conversation": "none"})
        await transport.until("response.output_text.delta")
        transport.speak(np.concatenate([buzz(1.0), np.zeros(24_000, np.float32)]))
        await transport.until("response.output_text.done")
    assert counted(metrics)["begun"] == 1


def counted(metrics: Metrics) -> dict[str, int]:
    """Early answers by outcome; only those that happened."""
    (family,) = metrics.early_answers.collect()
    return {
        sample.labels["outcome"]: int(sample.value)
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    }


async def test_an_answer_overtaken_by_a_typed_item_stays_before_it() -> None:
    """It has no item before it: the engine must not take that for "at the end"."""
    async with driven(ScriptedEngine()) as transport:
        transport.say(type="response.create")
        transport.say(type="conversation.item.create", item=typed("too", "late"))
        await transport.until("response.done")
        transport.say(type="conversation.item.create", item=typed("last", "history"))
        transport.say(type="response.create")
        history = (await transport.until("response.output_text.done"))["text"]
    assert [entry.split()[1:] for entry in history.split(" | ")] == [
        ["assistant", "nothing"],
        ["user", "late"],
        ["user", "history"],
    ]


async def test_a_cancelled_answer_says_what_it_has_cost() -> None:
    async with driven(ScriptedEngine()) as transport:
        transport.say(type="conversation.item.create", item=typed("q", "hang"))
        transport.say(type="response.create")
        delta = (await transport.until("response.output_text.delta"))["delta"]
        transport.say(type="response.cancel")
        response = (await transport.until("response.done"))["response"]
    assert response["status"] == "cancelled"
    assert response["usage"]["input_tokens"] == 1
    assert response["usage"]["output_tokens"] == len(delta)


def typed(item_id: str, text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"id": item_id, "type": "message", "role": "user", "content": content}


@pytest.mark.parametrize("in_events", [True, False])
async def test_a_translation_is_heard_to_the_last_sample_and_closed(in_events: bool) -> None:
    engine, metrics = CountingEngine(), Metrics()
    query = SessionQuery(translates=True)
    async with driven(engine, metrics, query) as transport:
        audio = {"input": {"transcription": {"model": "any"}}, "output": {"language": "German"}}
        transport.say(type="session.update", session={"audio": audio})
        await transport.until("session.updated")
        samples = buzz(1.2345)
        if in_events:
            for start in range(0, len(samples), PIECE_SAMPLES):
                piece = encode_pcm16(samples[start : start + PIECE_SAMPLES])
                transport.say(
                    type="session.input_audio_buffer.append",
                    audio=base64.b64encode(piece).decode(),
                )
        else:
            transport.speak(samples)
        transport.say(type="session.close")
        source = await transport.until("session.input_transcript.delta")
        translation = await transport.until("session.output_transcript.delta")
        assert translation["delta"] == f"{source['delta']} in de"
        await transport.until("session.closed")
        async with asyncio.timeout(PATIENCE_S):
            while transport.closed_with is None:  # noqa: ASYNC110  # it is only a number
                await asyncio.sleep(0.01)
        assert transport.closed_with == 1000
    (heard,) = engine.committed_samples
    assert abs(heard - len(samples) * 16_000 / 24_000) <= 1
    text = metrics.render().decode()
    assert 'voice_agent_responses_total{status="completed"} 1.0' in text
    assert "voice_agent_translation_backlog_seconds 0.0" in text


async def test_a_shutdown_translates_what_was_said_in_the_middle_of_it() -> None:
    transport, hub = MemoryTransport(), VadHub(make_scorer(ScorerName.WEBRTC))
    services = Services(Settings(), CountingEngine(), hub, Metrics())
    driver = SessionDriver("sess_1", transport, services, SessionQuery(translates=True))
    running = asyncio.create_task(driver.run())
    await transport.until("session.created")
    transport.speak(buzz(1.0))
    # Answered in order: when this is, the speech was heard, and nobody has said that it is over.
    transport.say(type="session.update", session={})
    await transport.until("session.updated")
    await driver.shut_down(PATIENCE_S)
    await running
    await hub.close()
    types = [transport.sent.get_nowait()["type"] for _ in range(transport.sent.qsize())]
    assert types == ["session.output_transcript.delta", "session.closed"]
    assert transport.closed_with == 1001


async def test_events_of_a_conversation_have_no_place_in_a_translation() -> None:
    async with driven(ScriptedEngine(), query=SessionQuery(translates=True)) as transport:
        await transport.until("session.created")
        for wrong in ("response.create", "input_audio_buffer.append", "conversation.item.create"):
            transport.say(type=wrong, event_id="mine")
            error = (await transport.sent.get())["error"]
            assert (error["code"], error["event_id"]) == ("unknown_event", "mine")
            assert "session." in error["message"]


async def test_events_of_a_translation_have_no_place_in_a_conversation() -> None:
    async with driven(ScriptedEngine()) as transport:
        await transport.until("session.created")
        transport.say(type="session.close")
        assert (await transport.sent.get())["error"]["code"] == "unknown_event"


class Behind(ScriptedConversation):
    """Has more to understand than may be sent to it."""

    backlog_s = 61.0


class BehindEngine(ScriptedEngine):
    """Opens conversations that take no more audio."""

    def open(self, settings, history=()):
        return Behind(self.options, settings, history)


@pytest.mark.parametrize("translates", [True, False])
async def test_a_session_ends_in_time_though_its_engine_takes_nothing_any_more(
    translates: bool,
) -> None:
    query = SessionQuery(translates=translates)
    limits = {"max_session_s": 0.2}
    async with driven(BehindEngine(), query=query, limits=limits) as transport:
        await transport.until("session.created")
        transport.speak(buzz(0.5))
        async with asyncio.timeout(PATIENCE_S):
            error = (await transport.sent.get())["error"]
            while transport.closed_with is None:  # noqa: ASYNC110  # it is only a number
                await asyncio.sleep(0.01)
        assert error["code"] == "session_expired"
        assert transport.closed_with == 1008
