"""The contract's conversation: checks on the event loop, work in the scheduler's thread."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples, encode_pcm16
from agent.engine.branches import BranchKind, BranchPiece, BranchRequest, TextDelta
from agent.engine.contract import Branch, Committed, Conversation, ConversationSettings
from agent.engine.gemma.decoding import Asked, Tell
from agent.engine.gemma.dialogue import Dialogue
from agent.engine.gemma.prompts import language_name
from agent.engine.gemma.scheduler import Scheduler
from agent.engine.gemma.two_texts import TwoTexts
from agent.engine.history import History, answer_item
from agent.engine.items import Item, Role, Speech
from agent.engine.stream import BranchStream
from agent.engine.utterance import ClipLengths
from agent.errors import EngineError, EngineUnavailable

_SETTLE_S = 0.03
"""After a change more is to be expected for so long: an answer is asked for, an item follows."""


class GemmaConversation(Conversation):
    """One conversation of the resident engine; all methods belong to one event loop.

    Args:
        scheduler: Does the work.
        dialogue: The conversation's other half, in the scheduler's thread.
        settings: To begin with.
        history: To begin with.
        on_close: Called once, by `close`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dialogue: Dialogue,
        settings: ConversationSettings,
        history: Sequence[Item],
        on_close: Callable[[GemmaConversation], None],
    ) -> None:
        self._scheduler = scheduler
        self._dialogue = dialogue
        self._settings = settings
        self._history = History(map(_without_clips, history))
        self._speaking = ClipLengths()
        self._streams: dict[int, BranchStream] = {}
        self._commits: dict[asyncio.Future[Committed], int] = {}
        self._numbers = itertools.count()
        self._settling: asyncio.TimerHandle | None = None
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._change(_clips(history))

    @property
    def is_live(self) -> bool:
        """Whether somebody speaks or is answered in it."""
        return bool(self._streams or self._commits or self._speaking.samples)

    # ------------------------------------------------------------ the open utterance

    def configure(self, settings: ConversationSettings) -> None:
        """See `Conversation.configure`."""
        self._settings = settings
        self._change()

    def hear(self, samples: Samples) -> None:
        """See `Conversation.hear`."""
        self._speaking.hear(samples.size)
        if samples.size:
            self._post(partial(self._dialogue.hear, encode_pcm16(samples)))

    def cut(self, keep_samples: int) -> None:
        """See `Conversation.cut`."""
        self._speaking.cut(keep_samples)
        self._post(partial(self._dialogue.cut, keep_samples))

    def pause(self) -> None:
        """See `Conversation.pause`; what was heard is resident already, so nothing is early."""

    def resume(self) -> None:
        """See `Conversation.resume`."""

    def forget(self) -> None:
        """See `Conversation.forget`."""
        if self._speaking.samples:
            self._speaking = ClipLengths()
            self._post(self._dialogue.forget)

    def commit(
        self, item_id: str, after: str | None = None, *, head: bool = False
    ) -> Awaitable[Committed]:
        """See `Conversation.commit`."""
        if not self._speaking.samples:
            raise ValueError("there is no open utterance to commit")
        self._history.insert(Item(item_id, Role.USER, (Speech(),)), after, head=head)
        outcome: asyncio.Future[Committed] = self._loop.create_future()
        self._commits[outcome] = self._speaking.samples
        outcome.add_done_callback(self._committed)
        self._speaking = ClipLengths()

        def tell(result: Committed | EngineError) -> None:
            self._scheduler.tell(partial(_settle, outcome, result))

        self._post(
            partial(self._dialogue.commit, item_id, self._settings, self._history.items, tell)
        )
        self._settle_soon()
        return outcome

    def _committed(self, outcome: asyncio.Future[Committed]) -> None:
        self._commits.pop(outcome, None)
        if not outcome.cancelled():
            outcome.exception()  # seen: a commit may be left unawaited

    # ------------------------------------------------------------ branches

    def branch(self, request: BranchRequest) -> Branch:
        """See `Conversation.branch`."""
        stream, number = BranchStream(), next(self._numbers)
        self._streams[number] = stream
        texts = self._two_texts(request)

        def push(piece: BranchPiece | EngineError) -> None:
            if isinstance(piece, EngineError):
                stream.fail(piece)
            elif texts is None:
                stream.push(piece)
            elif isinstance(piece, TextDelta):
                for part in texts.push(piece.text):
                    stream.push(part)
            else:
                for part in texts.finish():
                    stream.push(part)
                stream.push(piece)
            if stream.ended:
                self._streams.pop(number, None)

        asked = Asked(
            request.limits,
            self._teller(push),
            perf_counter(),
            is_kept=request.kind is BranchKind.ANSWER,
            judges=request.kind is BranchKind.TURN_END,
        )
        entries = request.context or ()
        own = [entry for entry in entries if isinstance(entry, Item)]
        if own:
            context = tuple(
                _without_clips(entry) if isinstance(entry, Item) else entry for entry in entries
            )
            request = replace(request, context=context)
        self._post(partial(self._dialogue.branch, number, request, _clips(own), asked))
        stream.when_cancelled(lambda: self._post(partial(self._dialogue.cancel, number)))
        return stream

    def _two_texts(self, request: BranchRequest) -> TwoTexts | None:
        """What takes a translation's reply apart."""
        target = self._settings.translate_into
        if request.kind is not BranchKind.TRANSLATION or target is None:
            return None
        return TwoTexts(language_name(target) or target)

    def _teller(self, push: Callable[[BranchPiece | EngineError], None]) -> Tell:
        def tell(piece: BranchPiece | EngineError) -> None:
            self._scheduler.tell(partial(push, piece))

        return tell

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
        if not isinstance(branch, BranchStream):
            raise TypeError("the branch is not of this engine")
        text = branch.text[:upto]
        if text:
            self._history.insert(answer_item(item_id, text), after, head=head)
        branch.cancel()
        self._change()

    # ------------------------------------------------------------ items

    def insert(self, item: Item, after: str | None = None, *, head: bool = False) -> None:
        """See `Conversation.insert`."""
        self._history.insert(_without_clips(item), after, head=head)
        self._change(_clips([item]))

    def truncate(self, item_id: str, upto: int) -> None:
        """See `Conversation.truncate`."""
        self._history.truncate(item_id, upto)
        self._change()

    def delete(self, item_id: str) -> None:
        """See `Conversation.delete`."""
        self._history.delete(item_id)
        self._change()

    def close(self) -> None:
        """See `Conversation.close`."""
        if self._settling is not None:
            self._settling.cancel()
        self.end(EngineUnavailable("the conversation was closed"))
        self._post(self._dialogue.close)
        self._on_close(self)

    def end(self, error: EngineError) -> None:
        """Nothing more comes of what was asked for."""
        for stream in self._streams.values():
            stream.fail(error)
        self._streams.clear()
        for outcome in list(self._commits):
            _settle(outcome, error)

    @property
    def backlog_s(self) -> float:
        """Seconds of committed speech that are not heard to the end yet."""
        return sum(self._commits.values()) / SAMPLE_RATE_HZ

    def _change(self, clips: dict[str, tuple[bytes, ...]] | None = None) -> None:
        self._post(partial(self._dialogue.change, self._settings, self._history.items, clips or {}))
        self._settle_soon()

    def _post(self, act: Callable[[], None]) -> None:
        """Have the other half do something in its thread."""
        self._scheduler.post(act, self._dialogue)

    def _settle_soon(self) -> None:
        """Let the engine read what is new, unless something else comes that is more urgent."""
        if self._settling is not None:
            self._settling.cancel()
        self._settling = self._loop.call_later(_SETTLE_S, self._post, self._dialogue.be_due)


def _without_clips(item: Item) -> Item:
    """An item whose audio is kept elsewhere."""
    content = tuple(
        replace(part, clips=()) if isinstance(part, Speech) else part for part in item.content
    )
    return replace(item, content=content)


def _clips(items: Iterable[Item]) -> dict[str, tuple[bytes, ...]]:
    """The audio of items, by their ids; only of those that have any."""
    clips = {
        item.id: tuple(
            clip for part in item.content if isinstance(part, Speech) for clip in part.clips
        )
        for item in items
    }
    return {item_id: parts for item_id, parts in clips.items() if parts}


def _settle(outcome: asyncio.Future[Committed], result: Committed | EngineError) -> None:
    if outcome.done():
        return
    if isinstance(result, EngineError):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)
