"""An engine without models that does what it is told; it runs in a real engine process too.

It hears numbers: a clip whose samples all have the value `n / 1000` is the word `n`, a clip
of silence is nothing. `n` translated is `n in` and the language. After the word `n` a speaker
has finished with the probability `n / 1000`. What it answers depends on the last user item:

    say some words    those words, one piece each
    history           all items: `id role text` each, separated by ` | `
    hang              one piece, then nothing until it is cancelled
    crash             one piece, then the process kills itself
    block             one piece, then the event loop stands still
    fail              one piece, then an `EngineError`
    pid               the number of the process

Options (all may be left out): `gate`: a file that commits wait for; `answer_gate`: one that
answers wait for; `crash_while`: a file while which exists the process kills itself when it
starts; `cannot_start`: the message of an `EngineError` at the start; `deadly`: a word that kills
the process when it is recognised; `import_s`, `build_s`: how long the process is deaf and dumb
before its engine is there, and once it has said that it is being built.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.audio.pcm import Encoding, Samples, decode
from agent.engine.branches import (
    BranchDone,
    BranchKind,
    BranchRequest,
    FinishReason,
    TextDelta,
    Usage,
)
from agent.engine.contract import (
    Branch,
    Committed,
    Conversation,
    ConversationSettings,
    Engine,
    EngineInfo,
    ProgressCallback,
)
from agent.engine.history import History, answer_item
from agent.engine.items import Item, Role, Speech, Text
from agent.engine.stream import BranchStream
from agent.engine.utterance import Utterance
from agent.errors import EngineError

FACTORY = "tests.helpers.scripted_engine:create"
INFO = EngineInfo(name="scripted", model="scripted-1", note="A test.", context_tokens=100)
_POLL_S = 0.005


def create(options: dict[str, object]) -> ScriptedEngine:
    """The factory that an engine process calls."""
    time.sleep(float(options.get("import_s", 0)))
    return ScriptedEngine(options)


def spoken(word: int, samples: int = 160) -> Samples:
    """Speech that is heard as `word` (1 … 999)."""
    return np.full(samples, word / 1000, np.float32)


class ScriptedEngine(Engine):
    """See the module."""

    def __init__(self, options: dict[str, object] | None = None) -> None:
        self.options = options or {}

    @property
    def info(self) -> EngineInfo:
        return INFO

    async def start(self, progress: ProgressCallback) -> None:
        progress("Learning the script", 0.5)
        if (build_s := float(str(self.options.get("build_s", 0)))) > 0:
            await asyncio.sleep(0.1)  # it has been said
            time.sleep(build_s)  # noqa: ASYNC251  # as libraries do that keep the interpreter
        if message := self.options.get("cannot_start"):
            raise EngineError(str(message))
        if (file := self.options.get("crash_while")) and exists(file):
            die()

    def open(
        self, settings: ConversationSettings, history: Sequence[Item] = ()
    ) -> ScriptedConversation:
        return ScriptedConversation(self.options, settings, history)

    async def stop(self) -> None:
        pass


class ScriptedConversation(Conversation):
    """See the module."""

    def __init__(
        self,
        options: dict[str, object],
        settings: ConversationSettings,
        history: Sequence[Item],
    ) -> None:
        self._options = options
        self.settings = settings
        self.history = History(history)
        self.utterance: Utterance | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(self, settings: ConversationSettings) -> None:
        self.settings = settings

    def hear(self, samples: Samples) -> None:
        self.utterance = self.utterance or Utterance()
        self.utterance.hear(samples)

    def cut(self, keep_samples: int) -> None:
        assert self.utterance is not None
        self.utterance.cut(keep_samples)

    def pause(self) -> None:
        if self.utterance is not None:
            self.utterance.pause()

    def resume(self) -> None:
        if self.utterance is not None:
            self.utterance.resume()

    def forget(self) -> None:
        self.utterance = None

    def commit(
        self, item_id: str, after: str | None = None, *, head: bool = False
    ) -> Awaitable[Committed]:
        assert self.utterance is not None
        words = self._words([clip.samples for clip in self.utterance.clips])
        self.utterance = None
        item = Item(item_id, Role.USER, (Speech(transcript=words),))
        self.history.insert(item, after, head=head)
        return self._understand(words)

    async def _understand(self, words: str) -> Committed:
        await self._gate()
        return Committed(Usage(audio_tokens=len(words)), words)

    async def _gate(self, name: str = "gate") -> None:
        while (gate := self._options.get(name)) and not exists(gate):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)

    def branch(self, request: BranchRequest) -> Branch:
        stream = BranchStream()
        work = self._work(stream, request)
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        stream.when_cancelled(lambda: stream.push(done(FinishReason.CANCELLED)))
        return stream

    def _work(self, stream: BranchStream, request: BranchRequest) -> Coroutine[Any, Any, None]:
        match request.kind:
            case BranchKind.TRANSCRIPT:
                return self._transcribe(stream, self._heard(request.item_id))
            case BranchKind.TRANSLATION:
                return self._translate(stream, self._heard(request.item_id))
            case BranchKind.TURN_END:
                return self._judge(stream, self._heard(None))
            case BranchKind.ANSWER:
                return self._answer(stream, self._seen(request))

    async def _translate(self, stream: BranchStream, heard: str) -> None:
        stream.push(TextDelta(heard, is_source=True))
        await self._gate()
        stream.push(TextDelta(f"{heard} in {self.settings.translate_into}"))
        stream.push(done(FinishReason.STOP))

    async def _judge(self, stream: BranchStream, heard: str) -> None:
        if not heard:
            stream.fail(EngineError("there is no open utterance to judge"))
            return
        await self._gate()
        probability = int(heard.rsplit(maxsplit=1)[-1]) / 1000
        stream.push(replace(done(FinishReason.STOP), probability=probability))

    async def _transcribe(self, stream: BranchStream, heard: str) -> None:
        for word in heard.split():
            stream.push(TextDelta(f"{word} "))
        await self._gate()
        stream.push(done(FinishReason.STOP))

    def _heard(self, item_id: str | None) -> str:
        if item_id is None:
            clips = self.utterance.clips if self.utterance is not None else ()
            return self._words([clip.samples for clip in clips])
        item = self.history.get(item_id)
        assert item is not None
        return self._text(item)

    def _seen(self, request: BranchRequest) -> Sequence[Item]:
        if request.context is None:
            if not request.include_open:
                return self.history.items
            spoken = Speech(transcript=self._heard(None))
            return (*self.history.items, Item("open", Role.USER, (spoken,)))
        named = [self.history.get(one) if isinstance(one, str) else one for one in request.context]
        return tuple(item for item in named if item is not None)

    async def _answer(self, stream: BranchStream, items: Sequence[Item]) -> None:
        asked = [self._text(item) for item in items if item.role is Role.USER]
        await self._gate("answer_gate")
        try:
            async for text in self._script(asked[-1] if asked else "say nothing", items):
                spent = Usage(text_tokens=1, output_tokens=len(stream.text) + len(text))
                stream.push(TextDelta(text, spent))
        except EngineError as error:
            stream.fail(error)
        stream.push(done(FinishReason.STOP, len(stream.text)))

    async def _script(self, asked: str, items: Sequence[Item]) -> AsyncIterator[str]:
        command, _, rest = asked.partition(" ")
        if command == "history":
            yield " | ".join(f"{one.id} {one.role} {self._text(one)}" for one in items)
            return
        if command == "pid":
            yield str(os.getpid())
            return
        if command == "say":
            for word in rest.split():
                yield f"{word} "
            return
        yield f"{command}… "
        await asyncio.sleep(0)  # so that the piece is sent
        match command:
            case "hang":
                await asyncio.Event().wait()
            case "crash":
                await asyncio.sleep(_POLL_S)
                die()
            case "block":
                await asyncio.sleep(_POLL_S)
                time.sleep(3600)  # noqa: ASYNC251  # that is the fault
            case "fail":
                raise EngineError("told to fail")

    def adopt(
        self,
        branch: Branch,
        item_id: str,
        upto: int,
        after: str | None = None,
        *,
        head: bool = False,
    ) -> None:
        assert isinstance(branch, BranchStream)
        branch.cancel()
        if upto:
            self.history.insert(answer_item(item_id, branch.text[:upto]), after, head=head)

    def insert(self, item: Item, after: str | None = None, *, head: bool = False) -> None:
        self.history.insert(item, after, head=head)

    def truncate(self, item_id: str, upto: int) -> None:
        self.history.truncate(item_id, upto)

    def delete(self, item_id: str) -> None:
        self.history.delete(item_id)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    @property
    def backlog_s(self) -> float:
        return 0.0

    def _text(self, item: Item) -> str:
        texts = []
        for part in item.content:
            if isinstance(part, Text):
                texts.append(part.text)
            elif isinstance(part, Speech):
                clips = [decode(clip, Encoding.PCM16) for clip in part.clips]
                texts.append(self._words(clips) if part.transcript is None else part.transcript)
        return " ".join(texts)

    def _words(self, clips: Sequence[Samples]) -> str:
        words = [str(round(float(clip.max()) * 1000)) for clip in clips if clip.any()]
        if self._options.get("deadly") in words:
            die()
        return " ".join(words)


def exists(path: object) -> bool:
    """Whether there is such a file."""
    return Path(str(path)).exists()


def die() -> None:
    """Kill this process, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def done(reason: FinishReason, output_tokens: int = 0) -> BranchDone:
    """The last piece of a branch."""
    return BranchDone(reason, Usage(text_tokens=1, output_tokens=output_tokens), {"prompt": 1.0})
