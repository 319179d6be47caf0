"""One conversation of the embedded engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from agent.audio.pcm import Encoding, Samples, decode
from agent.engine.branches import (
    BranchDone,
    BranchKind,
    BranchRequest,
    FinishReason,
    TextDelta,
    Usage,
)
from agent.engine.contract import Branch, Committed, Conversation, ConversationSettings
from agent.engine.history import History, answer_item
from agent.engine.items import Item, Role, Speech
from agent.engine.small.answers import Answers, Question
from agent.engine.small.listening import Listening, Words
from agent.engine.small.options import TRANSLATION_TARGETS
from agent.engine.small.recogniser import Heard
from agent.engine.small.recognition import RecognitionQueue, Speaker, Urgency
from agent.engine.stream import BranchStream
from agent.errors import EngineError, EngineUnavailable, Unsupported

log = structlog.get_logger(__name__)


class SmallConversation(Conversation):
    """Items as text; speech becomes text as soon as it is recognised.

    Args:
        queue: Recognises speech.
        answers: Decodes answers.
        settings: To begin with.
        history: To begin with; speech without a transcript is recognised.
    """

    def __init__(
        self,
        queue: RecognitionQueue,
        answers: Answers,
        settings: ConversationSettings,
        history: Sequence[Item],
    ) -> None:
        self._queue = queue
        self._answers = answers
        self._settings = settings
        self._speaker = Speaker(settings.language, settings.translate_into is not None)
        self._history = History()
        self._words: dict[str, Words] = {}
        self._listening: Listening | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._streams: set[BranchStream] = set()
        for item in history:
            self.insert(item)

    # ------------------------------------------------------------ the open utterance

    def configure(self, settings: ConversationSettings) -> None:
        """See `Conversation.configure`."""
        self._settings = settings
        self._speaker.language = settings.language
        self._speaker.is_translated = settings.translate_into is not None

    def hear(self, samples: Samples) -> None:
        """See `Conversation.hear`."""
        if not samples.size:
            return
        listening = self._listening or Listening(self._queue, self._speaker)
        listening.hear(samples)
        self._listening = listening

    def cut(self, keep_samples: int) -> None:
        """See `Conversation.cut`."""
        if self._listening is None:
            raise ValueError("there is no open clip to cut")
        self._listening.cut(keep_samples)

    def pause(self) -> None:
        """See `Conversation.pause`: the open clip is recognised."""
        if self._listening is not None:
            self._listening.pause()

    def resume(self) -> None:
        """See `Conversation.resume`."""
        if self._listening is not None:
            self._listening.resume()

    def forget(self) -> None:
        """See `Conversation.forget`."""
        if self._listening is not None:
            self._listening.drop()
            self._listening = None

    def commit(
        self, item_id: str, after: str | None = None, *, head: bool = False
    ) -> Awaitable[Committed]:
        """See `Conversation.commit`."""
        if self._listening is None:
            raise ValueError("there is no open utterance to commit")
        self._history.insert(Item(item_id, Role.USER, (Speech(),)), after, head=head)
        words = self._listening.words(Urgency.COMMITTED)
        self._words[item_id] = words
        self._listening = None
        task = self._start(_committed(words))
        task.add_done_callback(_retrieve)
        return task

    # ------------------------------------------------------------ branches

    def branch(self, request: BranchRequest) -> Branch:
        """See `Conversation.branch`."""
        stream = BranchStream()
        source: Words | str | None = None
        if request.kind is BranchKind.TURN_END:
            raise Unsupported("the embedded engine does not say whether a speaker has finished")
        if request.kind is BranchKind.TRANSCRIPT:
            source = self._words_to_transcribe(request.item_id)
            work = partial(_transcribe, stream, source)
        elif request.kind is BranchKind.TRANSLATION:
            source = self._words_to_translate(request.item_id)
            work = partial(_translate, stream, source)
        else:
            question = self._question(request)
            work = partial(self._answers.answer, stream, question, request.limits)
        task = self._start(self._run(stream, work))
        self._streams.add(stream)

        def ended(task: asyncio.Task[Any]) -> None:
            self._streams.discard(stream)
            # Unless it ended by itself; a task may be cancelled before it has begun.
            stream.push(BranchDone(FinishReason.CANCELLED, Usage()))

        def cancel() -> None:
            task.cancel()
            if isinstance(source, Words) and source.own is not None:
                self._queue.drop(source.own)

        task.add_done_callback(ended)
        stream.when_cancelled(cancel)
        return stream

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
        branch.cancel()
        if text := branch.text[:upto]:
            self._history.insert(answer_item(item_id, text), after, head=head)

    def _question(self, request: BranchRequest) -> Question:
        items = self._history.items if request.context is None else self._named(request.context)
        words = {item.id: self._words[item.id] for item in items if item.id in self._words}
        for item in items:
            if item.id not in words and (heard := self._listen_to(item)) is not None:
                words[item.id] = heard
        open_words = None
        if request.include_open and request.context is None and self._listening is not None:
            open_words = self._listening.words(Urgency.CLOSED)
        instructions = request.instructions
        if instructions is None:
            instructions = self._settings.instructions
        return Question(instructions, items, words, open_words, self._settings.truncation)

    def _named(self, context: Sequence[Item | str]) -> tuple[Item, ...]:
        """The items of a branch's own context."""
        items = []
        for entry in context:
            item = self._history.get(entry) if isinstance(entry, str) else entry
            if item is None:
                raise EngineError(f"there is no item {entry!r} in this conversation")
            items.append(item)
        return tuple(items)

    def _words_to_transcribe(self, item_id: str | None) -> Words | str:
        """What a transcript is made of; known words as text."""
        if item_id is None:
            if self._listening is None:
                raise EngineError("there is no open utterance to transcribe")
            return self._listening.caption()
        if item_id in self._words:
            return self._words[item_id]
        item = self._history.get(item_id)
        for part in item.content if item is not None else ():
            if isinstance(part, Speech) and part.transcript is not None:
                return part.transcript
        raise EngineError(f"there is no speech in an item {item_id!r}")

    def _words_to_translate(self, item_id: str | None) -> Words:
        target = self._settings.translate_into
        if target is None or target.partition("-")[0] not in TRANSLATION_TARGETS:
            raise Unsupported(
                f"the embedded engine translates into English only, not into {target!r}"
            )
        if item_id is None and self._listening is not None:
            return self._listening.words(Urgency.CLOSED)
        words = self._words_to_transcribe(item_id)
        if not isinstance(words, str):
            return words
        if words:
            raise EngineError("of this speech only the words are left; they cannot be translated")
        return Words([])

    async def _run(
        self, stream: BranchStream, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            await work()
        except EngineError as error:
            stream.fail(error)
        except Exception as error:  # the boundary: one branch fails, and is in the log
            log.exception("branch failed")
            stream.fail(EngineError(f"internal error: {type(error).__name__}"))

    # ------------------------------------------------------------ items

    def insert(self, item: Item, after: str | None = None, *, head: bool = False) -> None:
        """See `Conversation.insert`."""
        self._history.insert(item, after, head=head)
        if (words := self._listen_to(item)) is not None:
            self._words[item.id] = words

    def truncate(self, item_id: str, upto: int) -> None:
        """See `Conversation.truncate`."""
        self._history.truncate(item_id, upto)

    def delete(self, item_id: str) -> None:
        """See `Conversation.delete`."""
        self._history.delete(item_id)
        self._words.pop(item_id, None)

    def close(self) -> None:
        """See `Conversation.close`."""
        self.forget()
        for stream in self._streams:
            stream.fail(EngineUnavailable("the conversation was closed"))
        for task in tuple(self._tasks):
            task.cancel()

    @property
    def backlog_s(self) -> float:
        """Seconds of committed speech that wait for recognition."""
        return sum(words.committed_s for words in self._words.values())

    def _listen_to(self, item: Item) -> Words | None:
        """Recognise an item's speech when nobody knows its words."""
        for part in item.content:
            if isinstance(part, Speech) and part.transcript is None and part.clips:
                clips = [decode(clip, Encoding.PCM16) for clip in part.clips]
                return Words(
                    [self._queue.submit(self._speaker, clip, Urgency.COMMITTED) for clip in clips]
                )
        return None

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _committed(words: Words) -> Committed:
    heard = await words.heard()
    return Committed(_usage(heard), heard.text)


async def _transcribe(stream: BranchStream, source: Words | str) -> None:
    """Give the words as one piece."""
    began_s = asyncio.get_running_loop().time()
    heard = Heard(source) if isinstance(source, str) else await source.heard()
    if heard.text:
        stream.push(TextDelta(heard.text))
    recognition_ms = (asyncio.get_running_loop().time() - began_s) * 1000
    stream.push(BranchDone(FinishReason.STOP, _usage(heard), {"recognition": recognition_ms}))


async def _translate(stream: BranchStream, source: Words) -> None:
    """Give the words as one piece, and their translation as another."""
    began_s = asyncio.get_running_loop().time()
    heard = await source.heard()
    if heard.translation is None:
        raise EngineError("this speech was heard before it was to be translated, and is not kept")
    if heard.text:
        stream.push(TextDelta(heard.text, is_source=True))
    if heard.translation:
        stream.push(TextDelta(heard.translation))
    recognition_ms = (asyncio.get_running_loop().time() - began_s) * 1000
    stream.push(BranchDone(FinishReason.STOP, _usage(heard), {"recognition": recognition_ms}))


def _usage(heard: Heard) -> Usage:
    return Usage(audio_tokens=heard.audio_tokens, output_tokens=heard.output_tokens)


def _retrieve(task: asyncio.Task[Committed]) -> None:
    """Mark an error as seen: a commit may be left unawaited."""
    if not task.cancelled():
        task.exception()
