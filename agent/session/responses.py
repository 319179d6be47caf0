"""The answering half of a session: responses from `response.created` to `response.done`.

The item of an answer appears with its first text, so an answer that is stopped before it
said anything leaves no trace in the history. Text goes out as it comes, or is withheld while
somebody speaks over it; what was sent is what the history keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.protocol import server_events
from agent.session.commands import (
    AdoptBranch,
    BranchPurpose,
    DeleteItem,
    DropBranch,
    InsertItem,
    StartBranch,
)
from agent.session.conversation import History
from agent.session.early import EarlyAnswer
from agent.session.items import Item, TextPart
from agent.session.listening import Turn
from agent.session.outbox import NewId, Outbox
from agent.session.tokens import BranchEnded, BranchFailed, BranchText, TokenEvent, TokenUsage


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """What a response is made from.

    Attributes:
        in_conversation: False for out-of-band responses (`conversation: "none"`).
        instructions: Replaces the session's, or None.
        context: Replaces the conversation, or None.
        max_output_tokens: As it is shown: a number or `inf`.
        metadata: Echoed to the client.
        turn: The spoken turn it answers, or None.
    """

    in_conversation: bool = True
    instructions: str | None = None
    context: tuple[Item | str, ...] | None = None
    max_output_tokens: int | str = "inf"
    metadata: dict[str, str] | None = None
    turn: Turn | None = None


@dataclass(slots=True)
class Response:
    """One answer.

    Attributes:
        id: Its id on the wire.
        branch_id: Its branch in the engine.
        plan: What it is made from.
        anchor: The item it follows, None for the head.
        item_id: Its item, once it has said something.
        item_kept: False when the client deleted that item while it was being written.
        text: What was sent.
        first_text_at, last_text_at: When its first and its last text were sent, in seconds.
        status: Of the protocol; `in_progress` until it ends.
        usage: What it cost, as far as it got.
        stages_ms: Where the engine spent the time to its first text.
        began_at: When its branch was asked for, if that was before the turn was over.
        withheld: What its branch gave and was not acted on; None while nothing is withheld.
    """

    id: str
    branch_id: str
    plan: ResponsePlan
    anchor: str | None
    item_id: str | None = None
    item_kept: bool = True
    text: str = ""
    first_text_at: float | None = None
    last_text_at: float | None = None
    status: str = "in_progress"
    usage: TokenUsage = field(default_factory=TokenUsage)
    stages_ms: dict[str, float] | None = None
    began_at: float | None = None
    withheld: list[TokenEvent] | None = None

    @property
    def in_history(self) -> bool:
        """Whether its item is part of the conversation as the client knows it."""
        return self.plan.in_conversation and self.item_id is not None and self.item_kept

    def item(self, status: str) -> Item:
        """The assistant item as far as it goes."""
        assert self.item_id is not None
        return Item(id=self.item_id, role="assistant", parts=(TextPart(self.text),), status=status)


class Responses:
    """All responses of one session.

    Args:
        history: The conversation; answers become items of it.
        outbox: Where events and commands go.
        new_id: Makes ids.
        conversation_id: Shown in responses that belong to the conversation.
    """

    def __init__(
        self, history: History, outbox: Outbox, new_id: NewId, conversation_id: str
    ) -> None:
        self._history = history
        self._outbox = outbox
        self._new_id = new_id
        self._conversation_id = conversation_id
        self._by_branch: dict[str, Response] = {}
        self._ended_count = 0
        self.last_text_at: float | None = None
        """When text of the conversation was sent last, in seconds."""

    @property
    def active(self) -> Response | None:
        """The response of the conversation that is in progress; there is at most one."""
        return next(
            (response for response in self._by_branch.values() if response.plan.in_conversation),
            None,
        )

    @property
    def ended_count(self) -> int:
        """How many of the conversation have ended, however they did."""
        return self._ended_count

    @property
    def open_count(self) -> int:
        """How many are in progress, out-of-band ones included."""
        return len(self._by_branch)

    def find(self, response_id: str) -> Response | None:
        """The response in progress of that id."""
        return next((r for r in self._by_branch.values() if r.id == response_id), None)

    def start(self, plan: ResponsePlan, early: EarlyAnswer | None = None) -> None:
        """Begin a response; the caller has checked that it may.

        Args:
            plan: What it is made from.
            early: Begun already, on the same plan; what it gave is to be received next.
        """
        response = Response(
            id=self._new_id("resp"),
            branch_id=self._new_id("branch") if early is None else early.branch_id,
            plan=plan,
            anchor=self._history.last_id,
        )
        self._by_branch[response.branch_id] = response
        self._outbox.send(server_events.response_created(self._to_wire(response)))
        if early is not None:
            response.began_at = early.began_at
            return
        self._start_branch(response)

    def receive(self, event: TokenEvent, now: float) -> Response | None:
        """Take text or the end of a branch; gives the response if that ended it.

        Events of branches that are not in progress (any more) do nothing: text that was
        on its way when the answer was stopped is not sent.
        """
        response = self._by_branch.get(event.branch_id)
        if response is None:
            return None
        is_early = response.began_at is not None
        if is_early and isinstance(event, BranchFailed) and response.item_id is None:
            self._begin_again(response)
            return None
        if response.withheld is not None:
            response.withheld.append(event)
            return None
        match event:
            case BranchText(text=text):
                response.usage = event.usage or response.usage
                if text:
                    self._send_text(response, text, now)
                return None
            case BranchEnded(complete=complete):
                response.usage = event.usage
                response.stages_ms = event.stages_ms
                self._finish_completed(response, complete=complete)
            case BranchFailed(code=code, message=message):
                self._finish_failed(response, code, message)
        return response

    def withhold(self, response: Response) -> None:
        """Send no more of a response, its end included, until it is released or cancelled."""
        if response.withheld is None:
            response.withheld = []

    def release(self, response: Response, now: float) -> Response | None:
        """Go on with a response, what was withheld first; gives it if that ended it."""
        withheld, response.withheld = response.withheld, None
        for event in withheld or ():
            if self.receive(event, now) is not None:
                return response
        return None

    def cancel(self, response: Response, reason: str) -> None:
        """Stop a response; the history keeps what was sent.

        Args:
            response: One that is in progress.
            reason: `turn_detected` or `client_cancelled`.
        """
        response.status = "cancelled"
        for event in response.withheld or ():
            if not isinstance(event, BranchFailed):
                response.usage = event.usage or response.usage
        self._close_item(response, "incomplete")
        self._keep_or_drop(response)
        self._send_done(response, {"type": "cancelled", "reason": reason})

    def delete_item(self, item_id: str) -> None:
        """Take an item out of the conversation: answers that follow it move up.

        An answer that is being written ends without its item, which the engine does not
        know yet.
        """
        predecessor = self._history.predecessor(item_id)
        being_written = False
        for response in self._by_branch.values():
            if response.anchor == item_id:
                response.anchor = predecessor
            if response.item_id == item_id:
                response.item_kept = False
                being_written = True
        self._history.delete(item_id)
        if not being_written:
            self._outbox.put(DeleteItem(item_id))
        self._outbox.send(server_events.item_deleted(item_id))

    def settled(self, after: str | None) -> str | None:
        """The place `after` as the engine knows it: without the answer being written."""
        for response in self._by_branch.values():
            if response.in_history and response.item_id == after:
                assert after is not None
                return self._history.predecessor(after)
        return after

    def make_room(self) -> None:
        """What was spoken is never refused for the number of items: the oldest one goes."""
        if self._history.is_full:
            self.delete_item(next(iter(self._history)).id)

    # ------------------------------------------------------------ inside

    def _start_branch(self, response: Response) -> None:
        plan, limit = response.plan, response.plan.max_output_tokens
        self._outbox.put(
            StartBranch(
                branch_id=response.branch_id,
                purpose=BranchPurpose.ANSWER,
                instructions=plan.instructions,
                context=plan.context,
                max_output_tokens=limit if isinstance(limit, int) else None,
            )
        )

    def _begin_again(self, response: Response) -> None:
        """An early answer failed, or there was no time for it, before anything was sent.

        What was withheld of it is thrown away: nobody has seen it.
        """
        self._outbox.put(DropBranch(response.branch_id))
        del self._by_branch[response.branch_id]
        response.branch_id, response.began_at = self._new_id("branch"), None
        if response.withheld is not None:
            response.withheld = []
        self._by_branch[response.branch_id] = response
        self._start_branch(response)

    def _send_text(self, response: Response, text: str, now: float) -> None:
        if response.item_id is None:
            response.first_text_at = now
            self._open_item(response)
        assert response.item_id is not None
        response.text += text
        response.last_text_at = self.last_text_at = now
        self._outbox.send(server_events.text_delta(response.id, response.item_id, text))

    def _open_item(self, response: Response) -> None:
        response.item_id = self._new_id("item")
        item = response.item("in_progress")
        wire = item.to_wire() | {"content": []}
        self._outbox.send(server_events.output_item_added(response.id, wire))
        if response.plan.in_conversation:
            self.make_room()
            self._history.insert(item, response.anchor)
            self._outbox.send(server_events.item_added(wire, response.anchor))
        self._outbox.send(server_events.content_part_added(response.id, item.id))

    def _close_item(self, response: Response, status: str) -> None:
        if response.item_id is None:
            return
        item = response.item(status)
        self._outbox.send(server_events.text_done(response.id, item.id, response.text))
        self._outbox.send(server_events.content_part_done(response.id, item.id, response.text))
        self._outbox.send(server_events.output_item_done(response.id, item.to_wire()))
        if response.in_history:
            self._history.replace(item)
            previous = self._history.predecessor(item.id)
            self._outbox.send(server_events.item_done(item.to_wire(), previous))

    def _keep_or_drop(self, response: Response) -> None:
        if response.in_history:
            assert response.item_id is not None
            self._outbox.put(
                AdoptBranch(
                    branch_id=response.branch_id,
                    item_id=response.item_id,
                    upto=len(response.text),
                    after=self._history.predecessor(response.item_id),
                )
            )
        else:
            self._outbox.put(DropBranch(response.branch_id))

    def _finish_completed(self, response: Response, *, complete: bool) -> None:
        response.status = "completed" if complete else "incomplete"
        self._close_item(response, response.status)
        self._keep_or_drop(response)
        details: dict[str, Any] = {"type": response.status}
        if not complete:
            details["reason"] = "max_output_tokens"
        self._send_done(response, details)

    def _finish_failed(self, response: Response, code: str, message: str) -> None:
        response.status = "failed"
        self._close_item(response, "incomplete")
        self._outbox.put(DropBranch(response.branch_id))
        if response.in_history:
            # The branch may have died with its engine: the text that was sent is put into
            # the conversation as an item of its own.
            item = response.item("incomplete")
            self._outbox.put(InsertItem(item, self._history.predecessor(item.id)))
        error = {"type": "server_error", "code": code, "message": message}
        self._send_done(response, {"type": "failed", "error": error})

    def _send_done(self, response: Response, details: dict[str, Any]) -> None:
        del self._by_branch[response.branch_id]
        self._ended_count += response.plan.in_conversation
        self._outbox.send(server_events.response_done(self._to_wire(response, details)))

    def _to_wire(
        self, response: Response, details: dict[str, Any] | None = None
    ) -> server_events.Wire:
        done = response.status != "in_progress"
        output = []
        if done and response.item_id is not None:
            status = "completed" if response.status == "completed" else "incomplete"
            output = [response.item(status).to_wire()]
        usage = None
        if done:
            usage = server_events.usage_object(
                text_tokens=response.usage.text_tokens,
                audio_tokens=response.usage.audio_tokens,
                cached_tokens=response.usage.cached_tokens,
                output_tokens=response.usage.output_tokens,
                dropped_items=response.usage.dropped_items,
                summarised_items=response.usage.summarised_items,
            )
        plan = response.plan
        return server_events.response_object(
            response_id=response.id,
            conversation_id=self._conversation_id if plan.in_conversation else None,
            status=response.status,
            status_details=details,
            output=output,
            max_output_tokens=plan.max_output_tokens,
            metadata=plan.metadata,
            usage=usage,
        )
