"""What every engine promises: Engine, Conversation, Branch.

What a conversation is made of is in `agent.engine.items`, what a branch is asked and gives in
`agent.engine.branches`.

An engine holds many conversations. A conversation is a list of items plus at most one
*open utterance*: speech that is being heard now. A *branch* continues from the present
state without changing it, and is then adopted or dropped.

    engine.start()
    conversation = engine.open(settings, history=items)
    conversation.hear(samples); … ; conversation.pause(); conversation.hear(samples); …
    committed = await conversation.commit("item_1")
    branch = conversation.branch(BranchRequest(BranchKind.ANSWER))
    async for piece in branch: …            # TextDelta …, then one BranchDone
    conversation.adopt(branch, "item_2", upto=len(text_the_client_got))

Rules that hold for every implementation:

- Methods that are not `async` return at once and never block the caller's event loop;
  their effects happen in call order. All are called from one event loop thread.
- Nothing here knows the wire protocol, a clock or a socket.
- An item that is not there is no error: what is placed after it goes to the end, and it can be
  truncated or deleted without effect. An answer of which nothing was adopted has no item.
- A conversation is a pure function of its settings, its items and its open utterance:
  it can be rebuilt from them on any engine at any time (crash, reconnect, move).
- Audio is float32, mono, 16 kHz, in [-1, 1]. A clip is what the model hears in one piece
  and is always shorter than `MAX_CLIP_SAMPLES`; a longer turn is several clips of one item.

Implementations: `agent.engine.small` (in the engine's process) and
`agent.engine.supervisor` (the gateway's side of that process).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from agent.engine.branches import BranchPiece, BranchRequest, Usage
from agent.engine.items import Item

MAX_CLIP_SAMPLES = 30 * SAMPLE_RATE_HZ
"""Exclusive upper bound: Gemma 4's feature extractor cuts at 480,000 samples, silently."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """What happens when a conversation outgrows its context.

    Attributes:
        allowed: Whether its oldest turns may be left out, or summarised. If not, an answer
            whose prompt does not fit fails with `ContextOverflow`.
        retention_ratio: Share of the room for turns that is kept when some are left out;
            they are not summarised then. None for the engine's own way.
    """

    allowed: bool = True
    retention_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class ConversationSettings:
    """What a conversation is opened with and may change between turns.

    Attributes:
        instructions: The system prompt; empty for none.
        tools: Function tools in the protocol's JSON shape.
        language: BCP-47 code of the speech, or None to detect it.
        truncation: What happens when it gets too long.
        translate_into: BCP-47 code of the language that what is said will be asked for in,
            by `TRANSLATION` branches; None when it will not. Set before speech is heard.
    """

    instructions: str = ""
    tools: tuple[dict[str, object], ...] = ()
    language: str | None = None
    truncation: Truncation = Truncation()
    translate_into: str | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a committed utterance.

    Attributes:
        usage: What hearing it cost.
        transcript: The words, from engines that work on words; None from engines that
            hear audio itself.
    """

    usage: Usage
    transcript: str | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is and can do; the same for its whole life.

    Attributes:
        name: `small`, `gemma`, `remote`.
        model: The model as a client sees it (`/v1/models`).
        note: A sentence for people, shown on every surface, or empty. The embedded
            engine says here that it is demo quality and how to get Gemma 4.
        context_tokens: Longest prompt plus answer.
        images: Whether items may hold images.
        answers_at_once: About how many answers it writes at a time before they wait for each
            other.
        translates_open: Whether `TRANSLATION` branches of the open utterance cost little, so
            that they are worth making while somebody speaks.
        translation_targets: BCP-47 codes of the languages it can translate speech into; None
            for any.
        words_at_pauses: Whether it recognises at a pause what was said so far, so that a
            transcript of the open utterance costs nothing more then.
        judges_turn_ends: Whether it can make `TURN_END` branches.
        languages: BCP-47 codes, without regions, of the languages it understands; None for
            any.
    """

    name: str
    model: str
    note: str = ""
    context_tokens: int = 0
    images: bool = False
    answers_at_once: int = 8
    translation_targets: tuple[str, ...] | None = None
    translates_open: bool = False
    words_at_pauses: bool = False
    judges_turn_ends: bool = False
    languages: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """How an engine is now, for probes and metrics.

    Attributes:
        ready: Whether it can answer at this moment.
        available: Whether conversations can be opened; true during a short restart.
        restarts: How often its process had to be replaced.
        backlog_s: Seconds of committed speech not understood yet, over all conversations.
    """

    ready: bool = True
    available: bool = True
    restarts: int = 0
    backlog_s: float = 0.0


ProgressCallback = Callable[[str, float | None], None]
"""Called with (what is being done, fraction done 0…1 or None when unknown)."""


class Branch(ABC):
    """One continuation; iterate it for `BranchPiece`s.

    Iterating raises `EngineError` when the engine fails. The last piece of a branch that
    did not fail is a `BranchDone`; after `cancel()` that is one with
    `FinishReason.CANCELLED`, within one decoding step.
    """

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[BranchPiece]:
        """Iterate the pieces; one consumer, once."""

    @abstractmethod
    def cancel(self) -> None:
        """Stop decoding; harmless when already done."""


class Conversation(ABC):
    """One conversation's state inside an engine."""

    @abstractmethod
    def configure(self, settings: ConversationSettings) -> None:
        """Change instructions, tools or language from the next branch on."""

    @abstractmethod
    def hear(self, samples: Samples) -> None:
        """Add speech to the open utterance's open clip; opens one if there is none.

        Raises:
            ClipTooLong: The open clip would reach `MAX_CLIP_SAMPLES`; nothing was heard.
        """

    @abstractmethod
    def cut(self, keep_samples: int) -> None:
        """End the open clip after its first `keep_samples` samples.

        What was heard after them begins the next clip of the same utterance.

        Raises:
            ValueError: `keep_samples` is not within 1 … the samples of the open clip.
        """

    @abstractmethod
    def pause(self) -> None:
        """The speaker paused: what was heard so far may be all. Start early work.

        Samples heard between `pause()` and `resume()` are silence; work started at the
        pause stays valid for `commit()` if no `resume()` comes.
        """

    @abstractmethod
    def resume(self) -> None:
        """The speaker went on: drop what `pause()` started."""

    @abstractmethod
    def forget(self) -> None:
        """Drop the open utterance: back to the last commit. Harmless without one."""

    @abstractmethod
    def commit(
        self, item_id: str, after: str | None = None, *, head: bool = False
    ) -> Awaitable[Committed]:
        """Close the open utterance as a user item, placed as by `insert`.

        The item is part of the conversation as soon as this returns; the awaitable gives
        what became of it, or raises `EngineError`, and may be left unawaited.

        Raises:
            ValueError: There is no open utterance, or an item of that id.
        """

    @abstractmethod
    def branch(self, request: BranchRequest) -> Branch:
        """Continue from the state as it is now, without changing it."""

    @abstractmethod
    def adopt(
        self,
        branch: Branch,
        item_id: str,
        upto: int,
        after: str | None = None,
        *,
        head: bool = False,
    ) -> None:
        """Keep a branch's first `upto` characters as an assistant item.

        It is placed as by `insert`: the user may have spoken a short turn while the answer
        was given. `upto=0` keeps nothing and adds no item. The
        branch is cancelled if still running.
        """

    @abstractmethod
    def insert(self, item: Item, after: str | None = None, *, head: bool = False) -> None:
        """Add an item after item `after`; at the end when None; first when `head`.

        Raises:
            ValueError: There is an item of that id.
        """

    @abstractmethod
    def truncate(self, item_id: str, upto: int) -> None:
        """Cut an assistant item's text to its first `upto` characters."""

    @abstractmethod
    def delete(self, item_id: str) -> None:
        """Remove an item."""

    @abstractmethod
    def close(self) -> None:
        """Free everything; the conversation cannot be used again."""

    @property
    @abstractmethod
    def backlog_s(self) -> float:
        """Seconds of committed speech that are not understood yet; callers slow down on it."""


class Engine(ABC):
    """Holds a model and many conversations."""

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """What this engine is and can do."""

    @property
    def health(self) -> EngineHealth:
        """How it is now, once it was started."""
        return EngineHealth()

    @abstractmethod
    async def start(self, progress: ProgressCallback) -> None:
        """Load, warm up and get ready.

        Raises:
            EngineError: It cannot run here; the message says what is missing.
        """

    @abstractmethod
    def open(self, settings: ConversationSettings, history: Sequence[Item] = ()) -> Conversation:
        """Open a conversation, from its items if it lived before.

        Raises:
            EngineBusy: No place for another conversation.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Free everything."""
