"""The calls that change a conversation, as values: to send, to record, to make again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.audio.pcm import Samples
from agent.engine.contract import ConversationSettings
from agent.engine.items import Item


@dataclass(frozen=True, slots=True)
class Configure:
    """`Conversation.configure`."""

    settings: ConversationSettings


@dataclass(frozen=True, slots=True)
class Hear:
    """`Conversation.hear`.

    Attributes:
        audio: float32 in this machine's byte order; only ever sent to the same machine.
    """

    audio: bytes

    @classmethod
    def of(cls, samples: Samples) -> Hear:
        """The call that hears these samples."""
        return cls(samples.astype(np.float32, copy=False).tobytes())

    @property
    def samples(self) -> Samples:
        """float32[T], mono, 16 kHz; read-only."""
        return np.frombuffer(self.audio, np.float32)


@dataclass(frozen=True, slots=True)
class Cut:
    """`Conversation.cut`."""

    keep_samples: int


@dataclass(frozen=True, slots=True)
class Pause:
    """`Conversation.pause`."""


@dataclass(frozen=True, slots=True)
class Resume:
    """`Conversation.resume`."""


@dataclass(frozen=True, slots=True)
class Forget:
    """`Conversation.forget`."""


@dataclass(frozen=True, slots=True)
class Commit:
    """`Conversation.commit`.

    Attributes:
        serial: Names this commit in what is reported back; ids of items may be used again.
        item_id: The new item.
        after, head: Where it goes, as for `Insert`.
    """

    serial: int
    item_id: str
    after: str | None = None
    head: bool = False


@dataclass(frozen=True, slots=True)
class Adopt:
    """`Conversation.adopt`.

    Attributes:
        branch: Number of the branch.
        item_id: The new item.
        text: What is kept, for when the branch itself is gone.
        after, head: Where it goes, as for `Insert`.
    """

    branch: int
    item_id: str
    text: str
    after: str | None = None
    head: bool = False


@dataclass(frozen=True, slots=True)
class Insert:
    """`Conversation.insert`."""

    item: Item
    after: str | None = None
    head: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """`Conversation.truncate`."""

    item_id: str
    upto: int


@dataclass(frozen=True, slots=True)
class Delete:
    """`Conversation.delete`."""

    item_id: str


Call = (
    Configure | Hear | Cut | Pause | Resume | Forget | Commit | Adopt | Insert | Truncate | Delete
)
