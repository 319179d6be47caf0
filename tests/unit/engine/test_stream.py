from __future__ import annotations

import pytest

from agent.engine.branches import BranchDone, FinishReason, TextDelta, Usage
from agent.engine.stream import BranchStream
from agent.errors import EngineError

DONE = BranchDone(FinishReason.STOP, Usage())


async def test_pieces_come_in_order_and_end_with_the_last() -> None:
    stream = BranchStream()
    for piece in (TextDelta("a"), TextDelta("b"), DONE, TextDelta("late"), DONE):
        stream.push(piece)
    assert [piece async for piece in stream] == [TextDelta("a"), TextDelta("b"), DONE]
    assert stream.text == "ab"
    assert stream.ended


async def test_an_error_is_raised_after_what_came_before_it() -> None:
    stream = BranchStream()
    stream.push(TextDelta("a"))
    stream.fail(EngineError("broken"))
    stream.fail(EngineError("again"))
    stream.push(DONE)
    pieces = aiter(stream)
    assert await anext(pieces) == TextDelta("a")
    with pytest.raises(EngineError, match="broken"):
        await anext(pieces)


async def test_cancelling_reaches_the_decoder_until_the_end() -> None:
    stream = BranchStream()
    stream.cancel()  # nobody decodes yet
    cancelled = []
    stream.when_cancelled(lambda: cancelled.append(1))
    stream.cancel()
    stream.push(DONE)
    stream.cancel()
    assert cancelled == [1]
