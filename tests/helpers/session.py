"""Drive a sans-I/O session by hand, and check all it sends against the openai types."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import ConfigDict, TypeAdapter

from agent.config import InterruptionSettings, Limits, TurnSettings, VadSettings
from agent.errors import InvalidEvent
from agent.protocol.client_events import InputAudioAppend, RefusedEvent, parse
from agent.protocol.config import SessionConfig, TranscriptionConfig
from agent.session.commands import BranchPurpose, Command, StartBranch
from agent.session.options import SessionOptions
from agent.session.outputs import (
    Close,
    DropScore,
    EarlyAnswerReport,
    InterruptionReport,
    Output,
    PassReport,
    ScoreTurn,
    Send,
    TurnReport,
)
from agent.session.session import Session
from agent.session.tokens import BranchEnded, BranchFailed, BranchText, TokenUsage
from tests.helpers.by_hand import ByHand

USAGE = TokenUsage(text_tokens=7, audio_tokens=25, cached_tokens=3, output_tokens=2)
"""Of every branch that ends, unless the test says otherwise."""

NO_INTERRUPTION = {
    "audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}
}

_server_event: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent, config=ConfigDict())


def counting_ids() -> Callable[[str], str]:
    """Ids that are the same in every run: `item_1`, `resp_2`, …"""
    counter = itertools.count(1)
    return lambda prefix: f"{prefix}_{next(counter)}"


class SessionDriver(ByHand):
    """A client, an engine and a clock for one `Session`; all by hand.

    Attributes:
        events: Every event sent so far; each was checked against the openai types.
        commands: Every command for the engine so far.
        outputs: Both, and everything else, in order.
        reports: Every turn report so far.
        interruptions: Every report of an interruption so far.
        pauses: Every pause that was to be judged so far.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        vad: VadSettings | None = None,
        turns: TurnSettings | None = None,
        interruption: InterruptionSettings | None = None,
        answers_early: bool = True,
        hears_words: bool = False,
        extensions: frozenset[str] = frozenset(),
        languages: tuple[str, ...] | None = None,
        **config: Any,
    ) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        self.outputs: list[Output] = []
        self.reports: list[TurnReport] = []
        self.interruptions: list[InterruptionReport] = []
        self.pauses: list[ScoreTurn] = []
        first = TranscriptionConfig() if config.get("type") == "transcription" else SessionConfig()
        self.session = Session(
            first.updated(config),
            SessionOptions(
                session_id="sess_test",
                model="test-model",
                language=None,
                vad=vad or VadSettings(),
                turns=turns or TurnSettings(),
                hears_words=hears_words,
                limits=limits or Limits(),
                expires_at=4_000_000_000,
                extensions=extensions,
                languages=languages,
                interruption=interruption or InterruptionSettings(),
                answers_early=answers_early,
            ),
            counting_ids(),
        )
        self.session.start(self.now)
        self._drain()

    # ------------------------------------------------------------ the client

    def say(self, event: str | dict[str, Any]) -> list[dict[str, Any]]:
        """Send one event (or the raw text of one message) and get what was answered."""
        text = event if isinstance(event, str) else json.dumps(event)
        try:
            parsed = parse(text)
        except RefusedEvent as error:
            self.session.report(error, error.event_id)
            return self._drain()
        if isinstance(parsed, InputAudioAppend):
            try:
                parsed.decode()
            except InvalidEvent as error:
                self.session.report(error, parsed.event_id)
            return self._drain()
        self.session.receive_event(parsed, self.now)
        return self._drain()

    def speech(self, duration_ms: int) -> list[dict[str, Any]]:
        """Somebody speaks."""
        return self.audio(duration_ms, 1.0)

    def silence(self, duration_ms: int) -> list[dict[str, Any]]:
        """Nobody speaks."""
        return self.audio(duration_ms, 0.0)

    def turn(self, duration_ms: int = 1000) -> list[dict[str, Any]]:
        """A whole spoken turn, with the silence that ends it."""
        return self.speech(duration_ms) + self.silence(700)

    def hold(self, *, held: bool = True) -> list[dict[str, Any]]:
        """There is sound that is not heard yet, or none any more."""
        self.session.hold_text(held=held, now=self.now)
        return self._drain()

    # ------------------------------------------------------------ the engine

    def branches(self, purpose: BranchPurpose = BranchPurpose.ANSWER) -> list[StartBranch]:
        """The branches asked for so far."""
        return [
            command
            for command in self.commands
            if isinstance(command, StartBranch) and command.purpose is purpose
        ]

    def text(
        self, text: str, branch: StartBranch | None = None, usage: TokenUsage | None = None
    ) -> list[dict[str, Any]]:
        """The engine gives text of a branch (the last answer's)."""
        branch = branch or self.branches()[-1]
        self.now += 0.05
        self.session.receive_tokens(BranchText(branch.branch_id, text, usage), self.now)
        return self._drain()

    def end(
        self,
        branch: StartBranch | None = None,
        *,
        complete: bool = True,
        stages_ms: dict[str, float] | None = None,
        usage: TokenUsage = USAGE,
    ) -> list[dict[str, Any]]:
        """The engine ends a branch (the last answer's)."""
        branch = branch or self.branches()[-1]
        self.session.receive_tokens(
            BranchEnded(branch.branch_id, complete, usage, stages_ms or {}), self.now
        )
        return self._drain()

    def words(self, text: str | None) -> list[dict[str, Any]]:
        """What was said over the answer is understood; None: the engine has no time for it."""
        branch = self.branches(BranchPurpose.TRANSCRIPT)[-1]
        assert branch.optional
        return self.fail(branch) if text is None else self.text(text, branch) + self.end(branch)

    def fail(self, branch: StartBranch | None = None) -> list[dict[str, Any]]:
        """The engine fails a branch (the last answer's)."""
        branch = branch or self.branches()[-1]
        self.session.receive_tokens(
            BranchFailed(branch.branch_id, "engine_unavailable", "the engine restarts"), self.now
        )
        return self._drain()

    def judge(self, probability: float, pause: ScoreTurn | None = None) -> list[dict[str, Any]]:
        """Somebody says how likely the speaker has finished in a pause (the last one)."""
        pause = pause or self.pauses[-1]
        self.session.receive_turn_score(pause.number, probability, self.now)
        return self._drain()

    # ------------------------------------------------------------ inside

    def _drain(self) -> list[dict[str, Any]]:
        sent = []
        outputs = self.session.take_output()
        self.outputs += outputs
        for output in outputs:
            match output:
                case Send(event=event):
                    check_event(event)
                    sent.append(event)
                case TurnReport():
                    self.reports.append(output)
                case ScoreTurn():
                    self.pauses.append(output)
                case Close():
                    self.closed = output
                case InterruptionReport():
                    self.interruptions.append(output)
                case EarlyAnswerReport() | PassReport() | DropScore():
                    pass
                case _:
                    self.commands.append(output)
        self.events += sent
        return sent


def check_event(event: dict[str, Any]) -> None:
    """Fail unless the event is one that the openai types know, with all they insist on."""
    if event["type"].startswith("voice_agent."):
        assert event["event_id"]
        return
    parsed = _server_event.validate_python(_without_extensions(event))
    assert parsed.type == event["type"]
    if event["type"] == "response.done":
        usage = event["response"]["usage"]
        assert usage["input_token_details"] is not None  # pipecat insists on both
        assert usage["output_token_details"] is not None


def _without_extensions(event: dict[str, Any]) -> dict[str, Any]:
    """The event without what our extensions allow: the types know 24 kHz alone."""
    event = copy.deepcopy(event)
    audio_format = event.get("session", {}).get("audio", {}).get("input", {}).get("format", {})
    if audio_format.get("rate") in {16_000, 48_000}:
        audio_format["rate"] = 24_000
    return event


def types(events: list[dict[str, Any]]) -> list[str]:
    """The types of some events."""
    return [event["type"] for event in events]


def only(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one event of that type."""
    found = [event for event in events if event["type"] == kind]
    assert len(found) == 1, f"{len(found)} events of type {kind} in {types(events)}"
    return found[0]


def of_kind(driver: SessionDriver, kind: type[Any]) -> list[Any]:
    """The commands of that type so far."""
    return [command for command in driver.commands if isinstance(command, kind)]


def update(**session: Any) -> dict[str, Any]:
    """A `session.update` of a conversation."""
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def message(text: str, role: str = "user", **extra: Any) -> dict[str, Any]:
    """A `conversation.item.create` with a text message."""
    kind = "output_text" if role == "assistant" else "input_text"
    item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **extra}
    return {"type": "conversation.item.create", "item": item}


def answering(text: str = "Once upon a time", **config: Any) -> SessionDriver:
    """An answer is being given and has said `text`."""
    driver = SessionDriver(**config)
    driver.turn()
    if text:
        driver.text(text)
    return driver


def cancelled(sent: list[dict[str, Any]]) -> bool:
    """Whether speech cancelled a response."""
    return [
        event["response"]["status_details"]
        for event in sent
        if event["type"] == "response.done" and event["response"]["status"] == "cancelled"
    ] == [{"type": "cancelled", "reason": "turn_detected"}]


def answer(driver: SessionDriver) -> StartBranch:
    """The branch of the last answer that is not an early one of a turn that goes on."""
    return driver.branches()[0]
