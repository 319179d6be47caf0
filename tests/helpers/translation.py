"""Drive a sans-I/O translation session by hand, and check all it sends against openai's types."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import numpy as np
from openai.types.realtime.realtime_translation_server_event import RealtimeTranslationServerEvent
from pydantic import ConfigDict, TypeAdapter

from agent.config import Limits, VadSettings
from agent.protocol.client_events import TRANSLATION_EVENTS, RefusedEvent, parse
from agent.session.commands import (
    Command,
    Commit,
    Configure,
    Cut,
    DeleteItem,
    DropBranch,
    Forget,
    Hear,
    StartBranch,
)
from agent.session.outputs import Close, PassReport, Send, TurnReport
from agent.session.tokens import BranchEnded, BranchFailed, BranchText, TokenUsage
from agent.session.translation import TranslationOptions, TranslationSession
from tests.helpers.by_hand import ByHand
from tests.helpers.session import counting_ids

_server_event: TypeAdapter[Any] = TypeAdapter(RealtimeTranslationServerEvent, config=ConfigDict())
CLOSE = {"type": "session.close"}


def update(**audio: Any) -> dict[str, Any]:
    """A `session.update` with these settings."""
    return {"type": "session.update", "session": {"audio": audio}}


class TranslationDriver(ByHand):
    """A client, an engine and a clock for one `TranslationSession`; all by hand.

    Attributes:
        events: Every event sent so far; each was checked against the openai types.
        commands: Every command for the engine so far.
        reports: Every report so far.
        running: Branches that have not ended, the oldest first.
        looking: The branch on the open segment, if one has not ended.
        committed: float32 samples of every committed item.
        items: Items the engine holds now.
    """

    def __init__(
        self,
        *,
        targets: tuple[str, ...] | None = None,
        limits: Limits | None = None,
        vad: VadSettings | None = None,
        extensions: frozenset[str] = frozenset(),
        while_spoken: bool = False,
    ) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        self.reports: list[TurnReport] = []
        self.running: deque[StartBranch] = deque()
        self.looking: StartBranch | None = None
        self.committed: dict[str, np.ndarray] = {}
        self.items: list[str] = []
        self._open: list[np.ndarray] = []
        options = TranslationOptions(
            session_id="sess_test",
            model="test-model",
            language=None,
            targets=targets,
            vad=vad or VadSettings(),
            limits=limits or Limits(),
            expires_at=4_000_000_000,
            extensions=extensions,
            while_spoken=while_spoken,
        )
        self.session = TranslationSession(options, counting_ids())
        self.session.start(self.now)
        self._drain()

    # ------------------------------------------------------------ the client

    def say(self, event: str | dict[str, Any]) -> list[dict[str, Any]]:
        """Send one event and get what was answered."""
        text = event if isinstance(event, str) else json.dumps(event)
        try:
            self.session.receive_event(parse(text, TRANSLATION_EVENTS), self.now)
        except RefusedEvent as error:
            self.session.report(error, error.event_id)
        return self._drain()

    def segment(self, duration_ms: int = 1000) -> list[dict[str, Any]]:
        """Somebody says something and pauses."""
        return self.audio(duration_ms, 1.0) + self.audio(600, 0.0)

    # ------------------------------------------------------------ the engine

    def text(
        self, text: str, branch: StartBranch | None = None, *, source: bool = False
    ) -> list[dict[str, Any]]:
        """The engine gives text of a branch (the oldest)."""
        branch = branch or self.running[0]
        self.now += 0.05
        self.session.receive_tokens(BranchText(branch.branch_id, text, is_source=source), self.now)
        return self._drain()

    def end(
        self, branch: StartBranch | None = None, *, complete: bool = True
    ) -> list[dict[str, Any]]:
        """The engine ends a branch (the oldest)."""
        branch = branch or self.running[0]
        self.running.remove(branch)
        usage = TokenUsage(output_tokens=2)
        self.session.receive_tokens(
            BranchEnded(branch.branch_id, complete, usage, {"queue": 1.0}), self.now
        )
        return self._drain()

    def fail(self, branch: StartBranch | None = None) -> list[dict[str, Any]]:
        """The engine fails a branch (the oldest)."""
        branch = branch or self.running[0]
        self.running.remove(branch)
        self.session.receive_tokens(
            BranchFailed(branch.branch_id, "engine_unavailable", "the engine restarts"), self.now
        )
        return self._drain()

    def look(
        self, source: str, translation: str, *, complete: bool = True, took_s: float = 0.0
    ) -> list[dict[str, Any]]:
        """The engine gives all of the branch on the open segment."""
        assert self.looking is not None
        branch_id, self.looking = self.looking.branch_id, None
        self.now += took_s
        for event in (
            BranchText(branch_id, source, is_source=True),
            BranchText(branch_id, translation),
            BranchEnded(branch_id, complete, TokenUsage()),
        ):
            self.session.receive_tokens(event, self.now)
        return self._drain()

    # ------------------------------------------------------------ what came of it

    @property
    def source(self) -> str:
        """All that was sent of what was said."""
        return self._joined("session.input_transcript.delta")

    @property
    def translation(self) -> str:
        """All that was sent of the translation."""
        return self._joined("session.output_transcript.delta")

    def _joined(self, kind: str) -> str:
        return "".join(event["delta"] for event in self.events if event["type"] == kind)

    def configured(self) -> list[Configure]:
        """All settings the engine was given."""
        return [command for command in self.commands if isinstance(command, Configure)]

    # ------------------------------------------------------------ inside

    def _drain(self) -> list[dict[str, Any]]:
        sent = []
        for output in self.session.take_output():
            match output:
                case Send(event=event):
                    check_event(event)
                    sent.append(event)
                case TurnReport():
                    self.reports.append(output)
                case PassReport():
                    pass
                case Close():
                    assert self.closed is None
                    self.closed = output
                case _:
                    self.commands.append(output)
                    self._carry_out(output)
        self.events += sent
        return sent

    def _carry_out(self, command: Command) -> None:
        match command:
            case Hear(samples=samples):
                self._open.append(samples)
            case Forget():
                self._open = []
            case Commit(item_id=item_id, after=after):
                assert after is None or after in self.items
                assert item_id not in self.committed
                self.items.append(item_id)
                self.committed[item_id] = np.concatenate(self._open)
                self._open = []
            case StartBranch(item_id=None):
                assert self._open
                assert self.looking is None
                assert command.optional
                self.looking = command
            case DropBranch(branch_id=branch_id):
                assert self.looking is not None
                assert self.looking.branch_id == branch_id
                self.looking = None
            case StartBranch(item_id=item_id):
                assert item_id in self.items
                self.running.append(command)
            case DeleteItem(item_id=item_id):
                self.items.remove(item_id)
            case Configure() | Cut():
                pass
            case _:
                raise AssertionError(f"{command} has no place in a translation")


def check_event(event: dict[str, Any]) -> None:
    """Fail unless the event is one that the openai types know, with all they insist on."""
    if event["type"].startswith("voice_agent."):
        assert event["event_id"]
        return
    assert _server_event.validate_python(event).type == event["type"]
    if "elapsed_ms" in event:
        assert event["elapsed_ms"] % 200 == 0
        assert event["delta"]
