"""Text that waits for sound which is not heard yet, or for a client that reads slowly."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import uvicorn
from aiortc import RTCSessionDescription
from uvicorn.server import ServerState

from agent.audio.pcm import Samples
from agent.config import Settings
from agent.engine.branches import BranchKind, BranchRequest, FinishReason, TextDelta
from agent.engine.contract import Branch
from agent.engine.stream import BranchStream
from agent.gateway import holding
from agent.gateway.asgi import create_app
from agent.gateway.driver import SessionDriver
from agent.gateway.loop_delay import LoopWatch
from agent.gateway.services import Services, SessionQuery
from agent.gateway.webrtc import WebRtcTransport
from agent.gateway.wire import WebSocketWire
from agent.metrics import Metrics
from agent.vad.hub import VadHub
from agent.vad.scorers import Probabilities, Scorer
from tests.helpers.patience import PATIENCE_S
from tests.helpers.peer import Peer
from tests.helpers.scripted_engine import ScriptedConversation, ScriptedEngine, done
from tests.integration.test_driver import MemoryTransport, typed

SPEECH = np.full(24_000, 0.5, np.float32)  # a second at 24 kHz
SILENCE = np.zeros(24_000, np.float32)
RETRIEVE = {"type": "conversation.item.retrieve"}


class GatedScorer(Scorer[None]):
    """What is loud is speech; scores nothing while its gate is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def new_state(self) -> None:
        return None

    def score(self, states: Any, frames: Samples) -> Probabilities:
        del states
        assert self.gate.wait(PATIENCE_S)
        return (np.abs(frames).mean(axis=1) > 0.1).astype(np.float32)


class TalkingEngine(ScriptedEngine):
    """Its answers say what the test says; it has no words for what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[BranchStream] = []
        self.conversation: ScriptedConversation

    def open(self, settings: Any, history: Any = ()) -> ScriptedConversation:
        engine = self

        class Talking(ScriptedConversation):
            def branch(self, request: BranchRequest) -> Branch:
                if request.kind is not BranchKind.ANSWER:
                    return super().branch(request)
                stream = BranchStream()
                stream.when_cancelled(lambda: stream.push(done(FinishReason.CANCELLED)))
                engine.answers.append(stream)
                return stream

        self.conversation = Talking(self.options, settings, history)
        return self.conversation

    def say(self, *words: str) -> None:
        for word in words:
            self.answers[-1].push(TextDelta(word))


class Talk:
    """A session whose answer is running and has said "Once"."""

    def __init__(self) -> None:
        self.engine, self.scorer, self.metrics = TalkingEngine(), GatedScorer(), Metrics()
        self.transport, self.hub = MemoryTransport(), VadHub(self.scorer)
        self.loop_watch = LoopWatch()

    async def begin(self) -> None:
        self.transport.say(type="conversation.item.create", item=typed("q", "tell"))
        self.transport.say(type="response.create")
        await self.transport.until("response.created")
        self.engine.say("Once")
        self.item_id = (await self.transport.until("response.output_text.delta"))["item_id"]

    async def sends(self, last: str | None = None) -> list[str]:
        """What was sent of the answer: up to `last`, or all that the event loop does by itself."""
        events = []
        if last is not None:
            async with asyncio.timeout(PATIENCE_S):
                while not events or events[-1]["type"] != last:
                    events.append(await self.transport.sent.get())
        for _ in range(5):  # a machine that stands still for one of them does not for all
            await asyncio.sleep(0.01)
        events += [self.transport.sent.get_nowait() for _ in range(self.transport.sent.qsize())]
        return [event.get("delta", event["type"]) for event in events if "response" in str(event)]

    async def kept(self) -> tuple[str, str]:
        """What the history and the engine have of the answer."""
        self.transport.say(**RETRIEVE, item_id=self.item_id)
        item = (await self.transport.until("conversation.item.retrieved"))["item"]
        known = self.engine.conversation.history.get(self.item_id)
        assert known is not None
        return item["content"][0]["text"], self.engine.conversation._text(known)

    def waits(self, outcome: str) -> float:
        name = "voice_agent_text_hold_seconds_count"
        return self.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not let text go because sound was heard late."""
    monkeypatch.setattr(holding, "LONGEST_HOLD_S", PATIENCE_S)


@asynccontextmanager
async def talking() -> AsyncIterator[Talk]:
    talk = Talk()
    services = Services(Settings(), talk.engine, talk.hub, talk.metrics, loop_watch=talk.loop_watch)
    driver = SessionDriver("sess_1", talk.transport, services, SessionQuery())
    running = asyncio.create_task(driver.run())
    await talk.begin()
    yield talk
    talk.scorer.gate.set()
    await talk.transport.close(1000, "")
    await running
    await talk.hub.close()


async def test_text_waits_while_speech_is_not_scored_and_is_cancelled_unsent() -> None:
    async with talking() as talk:
        talk.scorer.gate.clear()
        talk.transport.speak(SPEECH)
        await asyncio.sleep(holding.HOLD_AFTER_S + 0.01)
        talk.engine.say(" upon", " a", " time")
        assert await talk.sends() == []
        talk.scorer.gate.set()
        response = (await talk.transport.until("response.done"))["response"]
        assert response["status_details"]["reason"] == "turn_detected"
        assert response["output"][0]["content"][0]["text"] == "Once"
        assert await talk.kept() == ("Once", "Once")
    assert talk.waits("heard") == 1


async def test_text_that_waited_for_silence_is_sent_in_order_with_the_end() -> None:
    async with talking() as talk:
        talk.scorer.gate.clear()
        talk.transport.speak(SILENCE[:4_800])
        await asyncio.sleep(holding.HOLD_AFTER_S + 0.01)
        talk.engine.say(" upon", " a")
        talk.engine.answers[-1].push(done(FinishReason.STOP))
        talk.transport.say(type="conversation.item.create", item=typed("more", "words"))
        assert await talk.sends() == []
        talk.scorer.gate.set()
        sent = await talk.sends("response.done")
        assert sent[:3] == [" upon", " a", "response.output_text.done"]
        assert sent[-1] == "response.done"
        assert await talk.kept() == ("Once upon a", "Once upon a")
    assert talk.waits("heard") == 1


async def test_text_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "LONGEST_HOLD_S", 0.1)
    async with talking() as talk:
        talk.scorer.gate.clear()
        talk.transport.speak(SILENCE[:4_800])
        await asyncio.sleep(holding.HOLD_AFTER_S + 0.01)
        talk.engine.say(" upon")
        assert (await talk.transport.until("response.output_text.delta"))["delta"] == " upon"
        talk.engine.say(" a")  # and none waits after it
        assert await talk.sends() == [" a"]
    assert talk.waits("gave_up") == 1


async def test_nothing_waits_where_speech_does_not_interrupt() -> None:
    async with talking() as talk:
        detection = {"type": "server_vad", "interrupt_response": False}
        audio = {"input": {"turn_detection": detection}}
        talk.transport.say(type="session.update", session={"type": "realtime", "audio": audio})
        await talk.transport.until("session.updated")
        talk.scorer.gate.clear()
        talk.transport.speak(SPEECH)
        await asyncio.sleep(holding.HOLD_AFTER_S + 0.01)
        talk.engine.say(" upon")
        assert (await talk.transport.until("response.output_text.delta"))["delta"] == " upon"


async def test_sound_that_nobody_read_counts_after_a_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "agent.gateway.loop_delay.LoopWatch.stalled_within", lambda self, period_s: True
    )
    async with talking() as talk:
        talk.transport.is_unread = True
        talk.engine.say(" upon")
        assert await talk.sends() == []
        talk.scorer.gate.clear()
        talk.transport.is_unread = False
        talk.transport.speak(SPEECH)
        assert await talk.sends() == []
        talk.scorer.gate.set()
        await talk.transport.until("response.done")
        assert await talk.kept() == ("Once", "Once")


async def test_what_a_slow_client_has_not_taken_is_not_sent_once_it_is_interrupted() -> None:
    async with talking() as talk:
        talk.transport.is_clear = False
        talk.engine.say(" upon")
        assert await talk.sends() == []
        talk.transport.is_clear = True
        assert talk.transport.on_clear is not None
        talk.transport.on_clear()
        assert await talk.sends() == [" upon"]
        talk.transport.is_clear = False
        talk.engine.say(" a", " time")
        talk.transport.speak(SPEECH)
        response = (await talk.transport.until("response.done"))["response"]
        assert response["output"][0]["content"][0]["text"] == "Once upon"
        assert await talk.kept() == ("Once upon", "Once upon")


async def test_what_came_while_the_loop_stood_still_is_heard_before_text_goes() -> None:
    """Both lie there when it goes on; the text would be faster, and the sound seems new."""
    async with talking() as talk:
        watching = asyncio.create_task(talk.loop_watch.run(talk.metrics.loop_delay_s))
        await asyncio.sleep(0.03)
        talk.transport.speak(SPEECH)
        talk.engine.say(" upon", " a")
        time.sleep(0.1)  # noqa: ASYNC251  # that is the fault
        response = (await talk.transport.until("response.done"))["response"]
        assert response["status_details"]["reason"] == "turn_detected"
        assert await talk.kept() == ("Once", "Once")
        watching.cancel()


async def test_sound_behind_a_lost_packet_counts() -> None:
    async with talking() as talk:
        talk.transport.audio_waits_since = time.monotonic() - holding.HOLD_AFTER_S
        talk.engine.say(" upon")
        assert await talk.sends() == []
        talk.transport.audio_waits_since = None
        talk.transport.speak(SPEECH)
        await talk.transport.until("response.done")
        assert await talk.kept() == ("Once", "Once")


@pytest.mark.parametrize("how", ["cancel", "leave"])
async def test_what_waits_is_gone_when_the_client_cancels_or_leaves(how: str) -> None:
    async with talking() as talk:
        talk.transport.is_clear = False
        talk.engine.say(" upon")
        assert await talk.sends() == []
        if how == "leave":
            return  # whatever waits, the session ends
        talk.transport.say(type="response.cancel")
        response = (await talk.transport.until("response.done"))["response"]
        assert response["output"][0]["content"][0]["text"] == "Once"
        assert await talk.kept() == ("Once", "Once")


async def test_a_data_channel_says_when_all_is_written_and_what_is_unread() -> None:
    transport, client = WebRtcTransport([], 100_000, Metrics()), Peer()
    written = asyncio.Event()
    transport.on_clear = written.set
    try:
        await client.connection.setLocalDescription(await client.connection.createOffer())
        answer = await transport.answer(client.connection.localDescription.sdp)
        await transport.send({"type": "early"})  # before there is a channel
        assert not transport.is_clear
        await client.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        async with asyncio.timeout(PATIENCE_S):
            await written.wait()
        assert transport.is_clear
        written.clear()
        for _ in range(100):
            await transport.send({"type": "many", "text": "x" * 1_000})
        assert not transport.is_clear
        async with asyncio.timeout(PATIENCE_S):
            await written.wait()
        assert transport.is_clear
        async with asyncio.timeout(PATIENCE_S):
            while transport.has_unread:
                await transport.receive()
        # It lies in the socket until the loop gets to it.
        assert transport._path is not None
        protocol = transport._path._dtls.transport._connection._protocols[0]
        address = protocol.transport.get_extra_info("sockname")
        with socket.socket(
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM
        ) as stranger:
            stranger.sendto(b"\x80" * 40, address)
        assert transport.has_unread
    finally:
        await transport.close(1000, "")
        await client.connection.close()


async def test_it_is_known_at_once_when_a_client_does_not_read() -> None:
    """What the kernel would take could not be withheld any more."""
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(create_app, log_config=None, ws_ping_interval=None)
    config.load()
    protocol = WebSocketWire(config, ServerState(), {}, loop)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, _ = listener.accept()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted)
        assert not protocol._has_unread()
        written = 0
        while protocol.writable.is_set() and written < 2_000_000:
            transport.write(bytes(200))
            written += 200
            await asyncio.sleep(0)
        assert written < 500_000
        transport.pause_reading()
        client.send(b"x")
        await asyncio.sleep(0.01)
        assert protocol._has_unread()
        transport.abort()
        await asyncio.sleep(0)
