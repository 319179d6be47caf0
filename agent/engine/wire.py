"""The messages between the gateway and its engine process, and their bytes.

A message is a frozen dataclass; on the wire it is its length (4 bytes, big-endian) and its
pickle. Pickle is safe here because both ends are one program and the socket between them
has no name that anybody else could connect to; what is read may still only hold our own
message types (docs/adr/0002-engine-process.md).
"""

from __future__ import annotations

import asyncio
import io
import pickle
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any

from agent import errors
from agent.engine import branches, calls, contract, items
from agent.engine.branches import BranchPiece, BranchRequest
from agent.engine.contract import Committed, ConversationSettings
from agent.engine.items import Item
from agent.errors import EngineError, LocalError

_LENGTH = struct.Struct(">I")
MAX_MESSAGE_BYTES = 1 << 30
"""A rebuilt conversation may bring an hour of 16-bit speech (115 MB); a longer message is a
sign that the two ends are out of step."""


# ------------------------------------------------------------ to the engine


@dataclass(frozen=True, slots=True)
class Open:
    """Open a conversation."""

    conversation: int
    settings: ConversationSettings
    history: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Make a call on a conversation."""

    conversation: int
    call: calls.Call


@dataclass(frozen=True, slots=True)
class Close:
    """Close a conversation."""

    conversation: int


@dataclass(frozen=True, slots=True)
class StartBranch:
    """Start a branch; its number is unique over all conversations."""

    conversation: int
    branch: int
    request: BranchRequest


@dataclass(frozen=True, slots=True)
class CancelBranch:
    """Cancel a branch."""

    branch: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Show that you are alive."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Free everything and leave."""


# ------------------------------------------------------------ from the engine


@dataclass(frozen=True, slots=True)
class Progress:
    """How far loading is; see `contract.ProgressCallback`."""

    doing: str
    fraction: float | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine is loaded."""


@dataclass(frozen=True, slots=True)
class CannotStart:
    """The engine cannot run here; the process leaves."""

    error: LocalError


@dataclass(frozen=True, slots=True)
class CommitDone:
    """What became of a commit."""

    conversation: int
    serial: int
    outcome: Committed | EngineError


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a branch."""

    conversation: int
    branch: int
    piece: BranchPiece


@dataclass(frozen=True, slots=True)
class BranchFailed:
    """A branch ended with an error."""

    conversation: int
    branch: int
    error: EngineError


@dataclass(frozen=True, slots=True)
class ConversationFailed:
    """A conversation could not be opened or refused a call; it does nothing any more."""

    conversation: int
    error: EngineError


@dataclass(frozen=True, slots=True)
class Pong:
    """The engine's event loop is alive."""


Request = Open | Change | Close | StartBranch | CancelBranch | Ping | Stop
Report = (
    Progress | Ready | CannotStart | CommitDone | Piece | BranchFailed | ConversationFailed | Pong
)


class WireError(Exception):
    """The bytes are no message of ours: the two ends are out of step."""


def encode(message: Request | Report) -> bytes:
    """A message's bytes, its length in front."""
    body = io.BytesIO()
    _Pickler(body, pickle.HIGHEST_PROTOCOL).dump(message)
    return _LENGTH.pack(body.getbuffer().nbytes) + body.getvalue()


def decode(body: bytes) -> Request | Report:
    """The message of these bytes, without the length.

    Raises:
        WireError: They hold anything but our own message types.
    """
    try:
        message = _Unpickler(io.BytesIO(body)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError) as error:
        raise WireError(f"not a message: {error}") from error
    if not isinstance(message, Request | Report):
        raise WireError(f"not a message: {type(message).__name__}")
    return message


async def read(reader: asyncio.StreamReader) -> Request | Report | None:
    """The next message; None at the end of the stream.

    Raises:
        WireError: What came is no message.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MAX_MESSAGE_BYTES:
            raise WireError(f"a message of {length} bytes")
        return decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


_OURS = {module.__name__: vars(module) for module in (branches, calls, contract, errors, items)}
_OURS[__name__] = globals()


class _Pickler(pickle.Pickler):
    """Names nothing that `_Unpickler` refuses."""

    def reducer_override(self, obj: object) -> Any:
        """Members of enums by their value: some Pythons (3.11.2) would name `getattr`."""
        if isinstance(obj, Enum):
            return type(obj), (obj.value,)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Builds our dataclasses, enums and errors, and nothing else."""

    def find_class(self, module: str, name: str) -> type:
        """Our own type of that name."""
        found = _OURS.get(module, {}).get(name)
        if isinstance(found, type) and found.__module__ == module:
            return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a message")
