"""The session under any order of events, legal or not.

A Hypothesis state machine plays client, engine and clock. Two mirrors that know nothing of
the session's inside follow along: what the client would believe, from the events it got,
and what the engine would hold, from the commands it got. They must always agree.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.config import Limits, VadSettings
from agent.session.commands import (
    AdoptBranch,
    BranchPurpose,
    Commit,
    Configure,
    Cut,
    DeleteItem,
    DropBranch,
    Forget,
    Hear,
    InsertItem,
    Resume,
    StartBranch,
    TruncateItem,
)
from agent.session.outputs import Send
from tests.helpers.session import SessionDriver

MAX_ITEMS = 4

ids = st.sampled_from(["a", "b", "c", "root", "ghost"])
texts = st.text(max_size=8)
_BRANCH = re.compile(r"branch_\d+(?=:)")


class ClientMirror:
    """What a client knows from the events alone."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.texts: dict[str, str] = {}
        self.active: dict[str, dict[str, Any]] = {}
        self.done: set[str] = set()
        self.event_ids: set[str] = set()
        self.speaking: str | None = None
        self.committed: set[str] = set()
        self.transcribed: set[str] = set()
        self.sent_branches: set[str] = set()
        """Branches whose text was sent; texts of the engine begin with their branch's id."""

    def receive(self, event: dict[str, Any]) -> None:
        assert event["event_id"] not in self.event_ids
        self.event_ids.add(event["event_id"])
        handler = getattr(self, "on_" + event["type"].replace(".", "_"), None)
        if handler is not None:
            handler(event)

    def on_conversation_item_added(self, event: dict[str, Any]) -> None:
        item, previous = event["item"], event["previous_item_id"]
        assert item["id"] not in self.items
        place = 0 if previous is None else self.items.index(previous) + 1
        self.items.insert(place, item["id"])
        content = item.get("content") or []
        self.texts[item["id"]] = "".join(part.get("text") or "" for part in content)

    def on_conversation_item_deleted(self, event: dict[str, Any]) -> None:
        self.items.remove(event["item_id"])

    def on_input_audio_buffer_speech_started(self, event: dict[str, Any]) -> None:
        assert self.speaking is None
        self.speaking = event["item_id"]

    def on_input_audio_buffer_speech_stopped(self, event: dict[str, Any]) -> None:
        assert self.speaking == event["item_id"]
        self.speaking = None

    def on_input_audio_buffer_cleared(self, event: dict[str, Any]) -> None:
        del event
        self.speaking = None

    def on_conversation_item_input_audio_transcription_delta(self, event: dict[str, Any]) -> None:
        assert event["delta"]
        assert event["item_id"] not in self.transcribed

    def on_conversation_item_input_audio_transcription_completed(
        self, event: dict[str, Any]
    ) -> None:
        assert event["item_id"] in self.committed - self.transcribed
        self.transcribed.add(event["item_id"])

    def on_input_audio_buffer_committed(self, event: dict[str, Any]) -> None:
        assert event["item_id"] not in self.committed
        self.committed.add(event["item_id"])
        assert event["previous_item_id"] == (self.items[-1] if self.items else None)

    def on_response_created(self, event: dict[str, Any]) -> None:
        response = event["response"]
        in_conversation = response["conversation_id"] is not None
        if in_conversation:
            assert not any(other["in_conversation"] for other in self.active.values())
        self.active[response["id"]] = {"in_conversation": in_conversation, "text": ""}

    def on_response_output_text_delta(self, event: dict[str, Any]) -> None:
        self.sent_branches.update(_BRANCH.findall(event["delta"]))
        self.active[event["response_id"]]["text"] += event["delta"]
        if event["item_id"] in self.items:
            self.texts[event["item_id"]] += event["delta"]

    def on_response_output_text_done(self, event: dict[str, Any]) -> None:
        assert self.active[event["response_id"]]["text"] == event["text"]

    def on_response_done(self, event: dict[str, Any]) -> None:
        response = event["response"]
        assert response["id"] not in self.done
        text = self.active.pop(response["id"])["text"]
        output = response["output"]
        assert text == "".join(item["content"][0]["text"] for item in output)
        self.done.add(response["id"])


class EngineMirror:
    """What an engine holds from the commands alone."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.texts: dict[str, str] = {}
        self.branches: dict[str, str] = {}
        self.heard_samples = 0
        self.clip_samples = 0
        self.held: set[str] = set()
        """Early answers whose turn is not over."""
        self.gone: set[str] = set()

    def receive(self, command: object) -> None:  # one case a command
        if isinstance(
            command, Resume | Forget | Configure | InsertItem | TruncateItem | DeleteItem
        ):
            assert not self.held, "an early answer must not outlive what it was begun on"
        match command:
            case Hear(samples=samples):
                assert len(samples)
                self.heard_samples += len(samples)
                self.clip_samples += len(samples)
                assert self.clip_samples <= 2 * 16_000
            case Cut(keep_samples=keep):
                assert 0 < keep <= self.clip_samples
                self.clip_samples -= keep
            case Forget():
                self.heard_samples = self.clip_samples = 0
            case Commit(item_id=item_id, after=after):
                assert self.heard_samples
                self.heard_samples = self.clip_samples = 0
                self._insert(item_id, "", after)
                self.held.clear()
            case StartBranch() | DropBranch() | AdoptBranch():
                self._receive_of_branch(command)
            case InsertItem(item=item, after=after):
                self._insert(item.id, item.text, after)
            case TruncateItem(item_id=item_id, upto=upto):
                assert upto <= len(self.texts[item_id])
                self.texts[item_id] = self.texts[item_id][:upto]
            case DeleteItem(item_id=item_id):
                self.items.remove(item_id)

    def _receive_of_branch(self, command: StartBranch | DropBranch | AdoptBranch) -> None:
        match command:
            case StartBranch(branch_id=branch_id, purpose=purpose, item_id=item_id):
                if purpose is BranchPurpose.TRANSCRIPT:
                    assert self.heard_samples if item_id is None else item_id in self.items
                self.branches[branch_id] = ""
                if command.include_open:
                    assert self.heard_samples
                    self.held.add(branch_id)
            case DropBranch(branch_id=branch_id):
                self.branches.pop(branch_id, None)
                self.held.discard(branch_id)
                self.gone.add(branch_id)
            case AdoptBranch(branch_id=branch_id, item_id=item_id, upto=upto, after=after):
                text = self.branches.pop(branch_id)
                self.gone.add(branch_id)
                assert 0 < upto <= len(text)
                self._insert(item_id, text[:upto], after)

    def _insert(self, item_id: str, text: str, after: str | None) -> None:
        assert item_id not in self.items
        self.items.insert(0 if after is None else self.items.index(after) + 1, item_id)
        self.texts[item_id] = text


def _asks_words(command: object) -> bool:
    """Whether the session wants to know what is said over an answer."""
    return (
        isinstance(command, StartBranch)
        and command.purpose is BranchPurpose.TRANSCRIPT
        and command.optional
    )


class AnyConversation(RuleBasedStateMachine):
    """Everything a client, an engine and time can do."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = SessionDriver(
            limits=Limits(max_items=MAX_ITEMS, max_session_s=100_000, idle_timeout_s=100_000),
            vad=VadSettings(
                clip_soft_limit_s=1.5, clip_hard_limit_s=2.0, cut_window_s=0.5, max_turn_s=4.0
            ),
            extensions=frozenset({"captions", "timings"}),
        )
        self.client = ClientMirror()
        self.engine = EngineMirror()
        self._seen = 0
        self._follow()

    def _follow(self) -> None:
        for output in self.driver.outputs[self._seen :]:
            if isinstance(output, Send):
                self.client.sent_branches.clear()
                self.client.receive(output.event)
                # Nothing is sent of an early answer, or of one that was stopped or dropped.
                assert not self.client.sent_branches & (self.engine.held | self.engine.gone)
            else:
                self.engine.receive(output)
        self._seen = len(self.driver.outputs)

    def _say(self, **event: Any) -> None:
        self.driver.say(event)
        self._follow()

    # ---- sound

    @rule(duration_ms=st.sampled_from([32, 96, 200, 600, 1200]))
    def speech(self, duration_ms: int) -> None:
        self.driver.speech(duration_ms)
        self._follow()

    @rule(duration_ms=st.sampled_from([32, 200, 250, 700]))
    def silence(self, duration_ms: int) -> None:
        self.driver.silence(duration_ms)
        self._follow()

    @rule()
    def long_speech(self) -> None:
        self.driver.speech(5_000)
        self._follow()

    @rule(duration_s=st.sampled_from([0.1, 0.6, 5.0]))
    def wait(self, duration_s: float) -> None:
        self.driver.wait(duration_s)
        self._follow()

    @rule(held=st.booleans())
    def hold(self, held: bool) -> None:
        self.driver.hold(held=held)
        self._follow()

    # ---- the client

    @rule(kind=st.sampled_from(["commit", "clear"]))
    def buffer(self, kind: str) -> None:
        self._say(type=f"input_audio_buffer.{kind}")

    @rule(
        detection=st.sampled_from(
            [
                None,
                {"type": "server_vad"},
                {"type": "server_vad", "create_response": False},
                {"type": "server_vad", "interrupt_response": False, "silence_duration_ms": 200},
                {"type": "server_vad", "idle_timeout_ms": 5000},
                {"type": "semantic_vad", "eagerness": "high"},
                {"type": "server_vad", "threshold": 7},
            ]
        ),
        transcription=st.sampled_from([None, {"model": "x"}]),
    )
    def update(self, detection: Any, transcription: Any) -> None:
        audio = {"input": {"turn_detection": detection, "transcription": transcription}}
        self._say(type="session.update", session={"audio": audio})

    @rule(
        item_id=ids,
        previous=st.none() | ids,
        text=texts,
        role=st.sampled_from(["user", "assistant", "system"]),
    )
    def create(self, item_id: str, previous: str | None, text: str, role: str) -> None:
        kind = "output_text" if role == "assistant" else "input_text"
        item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        if item_id not in {"root", "ghost"}:
            item["id"] = item_id
        self._say(type="conversation.item.create", item=item, previous_item_id=previous)

    def _some_item(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from([*self.client.items, "ghost"]))

    @rule(data=st.data(), kind=st.sampled_from(["delete", "retrieve"]))
    def delete_or_retrieve(self, data: st.DataObject, kind: str) -> None:
        self._say(type=f"conversation.item.{kind}", item_id=self._some_item(data))

    @rule(data=st.data(), text_end=st.none() | st.integers(0, 9))
    def truncate(self, data: st.DataObject, text_end: int | None) -> None:
        item_id = self._some_item(data)
        events = len(self.driver.events)
        self._say(
            type="conversation.item.truncate", item_id=item_id, content_index=0, text_end=text_end
        )
        answer = self.driver.events[events]
        if answer["type"] == "conversation.item.truncated":
            self.client.texts[item_id] = self.client.texts[item_id][:text_end]

    @rule(
        conversation=st.sampled_from(["auto", "none"]),
        reference=st.none() | ids,
    )
    def respond(self, conversation: str, reference: str | None) -> None:
        response: dict[str, Any] = {"conversation": conversation}
        if reference is not None:
            response["input"] = [{"type": "item_reference", "id": reference}]
        self._say(type="response.create", response=response)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        response_id = data.draw(st.sampled_from([None, "ghost", *self.client.active]))
        event = {} if response_id is None else {"response_id": response_id}
        self._say(type="response.cancel", **event)

    @rule(text=st.text(max_size=30))
    def nonsense(self, text: str) -> None:
        self.driver.say(text)
        self._follow()

    # ---- the engine

    def _some_branch(self, data: st.DataObject) -> StartBranch:
        """Also branches that ended or were dropped: what they say late must not matter."""
        started = [c for c in self.driver.commands if isinstance(c, StartBranch)]
        return data.draw(st.sampled_from(started[-4:]))

    @precondition(lambda self: any(isinstance(c, StartBranch) for c in self.driver.commands))
    @rule(data=st.data(), text=texts)
    def engine_text(self, data: st.DataObject, text: str) -> None:
        branch = self._some_branch(data)
        text = f"{branch.branch_id}:{text}"
        if branch.branch_id in self.engine.branches:
            self.engine.branches[branch.branch_id] += text
        self.driver.text(text, branch)
        self._follow()

    @precondition(lambda self: any(isinstance(c, StartBranch) for c in self.driver.commands))
    @rule(data=st.data(), how=st.sampled_from(["complete", "limit", "fail"]))
    def engine_end(self, data: st.DataObject, how: str) -> None:
        branch = self._some_branch(data)
        if how == "fail":
            self.driver.fail(branch)
        else:
            self.driver.end(branch, complete=how == "complete")
        self._follow()

    @precondition(lambda self: any(_asks_words(c) for c in self.driver.commands))
    @rule(said=st.sampled_from(["mhm", "stop it", None]))
    def engine_words(self, said: str | None) -> None:
        """What was said over an answer is understood; also too late."""
        branch = [c for c in self.driver.commands if _asks_words(c)][-1]
        if said is None:
            self.driver.fail(branch)
        else:
            self.driver.text(said, branch)
            self.driver.end(branch)
        self._follow()

    # ---- what must always hold

    @invariant()
    def client_and_engine_agree(self) -> None:
        writing = [item for item in self.client.items if item not in self.engine.items]
        settled = [item for item in self.client.items if item in self.engine.items]
        assert settled == self.engine.items
        # Only the one answer in progress may be with the client alone.
        assert len(writing) <= 1
        assert not writing or self.client.active
        for item_id in settled:
            assert self.client.texts[item_id] == self.engine.texts[item_id]

    @invariant()
    def conversation_stays_bounded(self) -> None:
        assert len(self.client.items) <= MAX_ITEMS

    @invariant()
    def deadlines_are_ahead(self) -> None:
        self.driver.session.tick(self.driver.now)
        self.driver._drain()
        self._follow()
        deadline = self.driver.session.next_deadline
        assert deadline is not None
        assert deadline > self.driver.now


TestAnyConversation = AnyConversation.TestCase
TestAnyConversation.settings = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
