"""A conversation and its branches as the gateway sees them: the engine is elsewhere.

They outlive the process that works for them. What is called while there is none is noted in
the mirror and takes effect when the conversation is built again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from agent.audio.pcm import Samples
from agent.engine import calls, wire
from agent.engine.branches import (
    BranchDone,
    BranchKind,
    BranchPiece,
    BranchRequest,
    FinishReason,
    TextDelta,
    Usage,
)
from agent.engine.contract import Branch, Committed, Conversation, ConversationSettings
from agent.engine.items import Item
from agent.engine.mirror import Mirror
from agent.engine.stream import BranchStream
from agent.errors import EngineError, EngineUnavailable

Send = Callable[[wire.Request], None]

_TRIES = 2
_branch_numbers = itertools.count(1)


class SupervisedBranch(BranchStream):
    """A branch whose pieces come from an engine process.

    Attributes:
        number: Its name in messages.
        is_sent: Whether the present process works on it.
    """

    def __init__(self, request: BranchRequest, items: tuple[Item, ...]) -> None:
        super().__init__()
        self.number = next(_branch_numbers)
        self.request = request
        self.is_sent = False
        self._items = items
        self._tries = 0
        self._cancelled = False
        self._given = ""
        self._repeated = ""
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def is_answer(self) -> bool:
        """Answers have no one right text, and somebody waits for them."""
        return self.request.kind is BranchKind.ANSWER

    @property
    def _may_be_repeated(self) -> bool:
        """Another answer could contradict what was seen of this one; of an early one, what is
        open may be committed by now."""
        if self._tries >= _TRIES:
            return False
        return not self.is_answer or not (self.text or self.request.include_open)

    def wait_at_most(self, limit_s: float) -> None:
        """Fail unless it is sent within so many seconds."""
        self._expiry = asyncio.get_running_loop().call_later(
            limit_s, self.fail, EngineUnavailable(f"no engine was ready within {limit_s:g} s")
        )

    def sending(self, present: tuple[Item, ...]) -> BranchRequest:
        """It is about to be sent: the request as it must be made now.

        Args:
            present: The conversation's items. If they are not those that the branch was
                asked for on, it is given those as its context.
        """
        self.is_sent = True
        self._tries += 1
        self._given, self._repeated = self.text, ""
        if self._expiry is not None:
            self._expiry.cancel()
        if not self.is_answer or self.request.context is not None or self._items == present:
            return self.request
        here = {item.id for item in present}
        context = tuple(item.id if item.id in here else item for item in self._items)
        return replace(self.request, context=context)

    def cancel(self) -> None:
        """See `Branch.cancel`."""
        self._cancelled = True
        if self.is_sent:
            super().cancel()
        else:
            self._end_cancelled()

    def receive(self, piece: BranchPiece) -> None:
        """Take a piece; text that an earlier process gave already is not given again."""
        given = self._given
        if isinstance(piece, TextDelta) and len(self._repeated) < len(given):
            self._repeated += piece.text
            if not (self._repeated.startswith(given) or given.startswith(self._repeated)):
                self.fail(EngineUnavailable("the engine was restarted and now heard otherwise"))
                return
            piece = replace(piece, text=self._repeated[len(given) :])
            if not piece.text:
                return
        self.push(piece)

    def lose_process(self, error: EngineError, limit_s: float) -> None:
        """The process that worked on it is gone; an answer waits so long for the next one."""
        if not self.is_sent or self.ended:
            return
        self.is_sent = False
        if self._cancelled:
            self._end_cancelled()
        elif not self._may_be_repeated:
            self.fail(error)
        elif self.is_answer:
            self.wait_at_most(limit_s)

    def _end_cancelled(self) -> None:
        self.push(BranchDone(FinishReason.CANCELLED, Usage()))


class _Commit:
    """A commit whose outcome is awaited."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self.outcome.add_done_callback(_retrieve)
        self.tries = 0

    def settle(self, outcome: Committed | EngineError) -> None:
        if self.outcome.done():
            return
        if isinstance(outcome, EngineError):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)


class SupervisedConversation(Conversation):
    """A conversation that is built again in every new engine process.

    Args:
        number: Its name in messages.
        settings: To begin with.
        history: To begin with.
        on_close: Called once, by `close`.
        ready_timeout_s: How long an answer waits for an engine.
    """

    def __init__(
        self,
        number: int,
        settings: ConversationSettings,
        history: Sequence[Item],
        *,
        on_close: Callable[[], None],
        ready_timeout_s: float,
    ) -> None:
        self._number = number
        self._mirror = Mirror(settings, history)
        self._on_close = on_close
        self._ready_timeout_s = ready_timeout_s
        self._send: Send | None = None
        self._refusal: EngineError | None = None
        self._serials = itertools.count(1)
        self._commits: dict[int, _Commit] = {}
        self._branches: dict[int, SupervisedBranch] = {}

    # ------------------------------------------------------------ the contract

    def configure(self, settings: ConversationSettings) -> None:
        """See `Conversation.configure`."""
        self._make(calls.Configure(settings))

    def hear(self, samples: Samples) -> None:
        """See `Conversation.hear`."""
        self._make(calls.Hear.of(samples))

    def cut(self, keep_samples: int) -> None:
        """See `Conversation.cut`."""
        self._make(calls.Cut(keep_samples))

    def pause(self) -> None:
        """See `Conversation.pause`."""
        self._make(calls.Pause())

    def resume(self) -> None:
        """See `Conversation.resume`."""
        self._make(calls.Resume())

    def forget(self) -> None:
        """See `Conversation.forget`."""
        self._make(calls.Forget())

    def commit(
        self, item_id: str, after: str | None = None, *, head: bool = False
    ) -> Awaitable[Committed]:
        """See `Conversation.commit`; an outcome that a crash swallowed is asked for again."""
        call = calls.Commit(next(self._serials), item_id, after, head)
        self._make(call)
        commit = _Commit()
        if self._refusal is not None:
            commit.settle(self._refusal)
        else:
            commit.tries = 0 if self._send is None else 1
            self._commits[call.serial] = commit
        return commit.outcome

    def branch(self, request: BranchRequest) -> Branch:
        """See `Conversation.branch`; an answer waits for an engine that is being restarted.

        Not an early one: by then the utterance may be committed, and not be what is open.
        """
        branch = SupervisedBranch(request, self._mirror.items)
        if self._refusal is not None:
            branch.fail(self._refusal)
            return branch
        if request.include_open and self._send is None:
            branch.fail(EngineUnavailable("the engine is being restarted"))
            return branch
        self._branches[branch.number] = branch
        if self._send is not None:
            self._start(branch, self._send)
        elif branch.is_answer:
            branch.wait_at_most(self._ready_timeout_s)
        return branch

    def adopt(
        self,
        branch: Branch,
        item_id: str,
        upto: int,
        after: str | None = None,
        *,
        head: bool = False,
    ) -> None:
        """See `Conversation.adopt`."""
        if not isinstance(branch, SupervisedBranch):
            raise TypeError("the branch is not of this engine")
        branch.cancel()
        self._make(calls.Adopt(branch.number, item_id, branch.text[:upto], after, head))

    def insert(self, item: Item, after: str | None = None, *, head: bool = False) -> None:
        """See `Conversation.insert`."""
        self._make(calls.Insert(item, after, head))

    def truncate(self, item_id: str, upto: int) -> None:
        """See `Conversation.truncate`."""
        self._make(calls.Truncate(item_id, upto))

    def delete(self, item_id: str) -> None:
        """See `Conversation.delete`."""
        self._make(calls.Delete(item_id))

    def close(self) -> None:
        """See `Conversation.close`."""
        self._end_work(EngineUnavailable("the conversation was closed"))
        if self._send is not None:
            self._send(wire.Close(self._number))
            self._send = None
        self._on_close()

    @property
    def backlog_s(self) -> float:
        """Seconds of committed speech whose outcome is not known yet."""
        return self._mirror.pending_s

    # ------------------------------------------------------------ the supervisor's side

    def attach(self, send: Send) -> None:
        """Build the conversation in a new process and go on there."""
        self._refusal = None
        self._forget_ended()
        rebuild = self._mirror.rebuild()
        send(wire.Open(self._number, rebuild.settings, rebuild.history))
        for call in rebuild.calls:
            send(wire.Change(self._number, call))
        for commit in self._commits.values():
            commit.tries += 1
        self._send = send
        for branch in self._branches.values():
            self._start(branch, send)

    def detach(self) -> None:
        """The process is gone: answers that had begun fail, the rest is made again, once."""
        self._send = None
        lost = EngineUnavailable("the engine stopped in the middle of this; it is restarted")
        for branch in self._branches.values():
            branch.lose_process(lost, self._ready_timeout_s)
        self._forget_ended()
        for serial, commit in list(self._commits.items()):
            if commit.tries >= _TRIES or serial not in self._mirror.pending:
                # This speech may be what the engine dies of: it stays inaudible.
                self._mirror.settle(serial, "")
                self._commits.pop(serial).settle(lost)

    def refuse(self, error: EngineError) -> None:
        """Until it is attached again whatever is asked fails at once."""
        self._send = None
        self._refusal = error
        self._end_work(error)

    def settle(self, serial: int, outcome: Committed | EngineError) -> None:
        """What became of a commit."""
        transcript = "" if isinstance(outcome, EngineError) else outcome.transcript
        self._mirror.settle(serial, transcript)
        if (commit := self._commits.pop(serial, None)) is not None:
            commit.settle(outcome)

    def receive(self, number: int, outcome: BranchPiece | EngineError) -> None:
        """A piece of a branch, or its end by an error."""
        branch = self._branches.get(number)
        if branch is None:
            return
        if isinstance(outcome, EngineError):
            branch.fail(outcome)
        else:
            branch.receive(outcome)
        if branch.ended:
            del self._branches[number]

    def _make(self, call: calls.Call) -> None:
        self._mirror.apply(call)
        if self._send is not None:
            self._send(wire.Change(self._number, call))

    def _start(self, branch: SupervisedBranch, send: Send) -> None:
        branch.when_cancelled(lambda: send(wire.CancelBranch(branch.number)))
        request = branch.sending(self._mirror.items)
        send(wire.StartBranch(self._number, branch.number, request))

    def _end_work(self, error: EngineError) -> None:
        for branch in self._branches.values():
            branch.fail(error)
        self._branches.clear()
        for commit in self._commits.values():
            commit.settle(error)
        self._commits.clear()

    def _forget_ended(self) -> None:
        self._branches = {
            number: branch for number, branch in self._branches.items() if not branch.ended
        }


def _retrieve(outcome: asyncio.Future[Committed]) -> None:
    """Mark an error as seen: a commit may be left unawaited."""
    if not outcome.cancelled():
        outcome.exception()
