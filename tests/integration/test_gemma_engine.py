"""The resident engine in its own process, with a tiny random checkpoint."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.audio.pcm import encode_pcm16
from agent.config import EngineName, EngineProcessSettings, Settings
from agent.engine.branches import BranchKind, BranchRequest, Limits, TextDelta
from agent.engine.contract import Conversation, ConversationSettings
from agent.engine.factory import select_engine
from agent.engine.items import Item, Role, Speech
from agent.engine.supervisor import EngineState, EngineSupervisor
from agent.errors import EngineUnavailable, ModelStoreError, Unsupported
from tests.helpers.engines import read, started
from tests.helpers.gemma_engine import tiny_folder
from tests.helpers.noise import noise
from tests.helpers.tiny_gemma import save_tiny_gemma

PATIENCE_S = 120
SHORT = BranchRequest(BranchKind.ANSWER, limits=Limits(max_output_tokens=10, temperature=0))
LONG = BranchRequest(BranchKind.ANSWER, limits=Limits(max_output_tokens=1000, temperature=0))
SETTINGS = ConversationSettings("Be brief.")


def supervisor(model: Path, **gemma: Any) -> EngineSupervisor:
    tiny = {"device": "cpu", "dtype": "float32", "context_tokens": 2048, "slots": 16, "threads": 1}
    return select_engine(
        Settings(
            engine=EngineName.GEMMA,
            model=str(model),
            gemma={**tiny, "piece_ms": 320, **gemma},
            engine_process=EngineProcessSettings(),
        )
    )


@asynccontextmanager
async def running(**gemma: Any) -> AsyncIterator[EngineSupervisor]:
    async with started(supervisor(tiny_folder(), **gemma), PATIENCE_S) as engine:
        yield engine


async def turn(conversation: Conversation, item_id: str, seed: int) -> str:
    """Say something, and read and keep the answer."""
    speech = noise(12_000 + 1_000 * seed, seed)
    for at in range(0, len(speech), 1_600):
        conversation.hear(speech[at : at + 1_600])
    committed = conversation.commit(item_id)
    branch = conversation.branch(SHORT)
    text, _ = await read(branch)
    conversation.adopt(branch, f"answer to {item_id}", 4)
    assert (await committed).usage.audio_tokens > 0
    return text


async def test_eight_conversations_go_on_after_their_engine_was_killed() -> None:
    async with running() as engine:
        conversations = [engine.open(SETTINGS) for _ in range(8)]
        first = await asyncio.gather(*(turn(one, "u1", n) for n, one in enumerate(conversations)))
        for n, conversation in enumerate(conversations):
            conversation.hear(noise(9_000, 50 + n))
        branches = [conversation.branch(LONG) for conversation in conversations]
        pieces = [aiter(branch) for branch in branches]
        for piece in pieces:
            assert isinstance(await anext(piece), TextDelta)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        for piece in pieces:
            with pytest.raises(EngineUnavailable):
                async for _ in piece:
                    pass
        while engine.state is not EngineState.READY or not engine.restarts:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for conversation in conversations:
            conversation.commit("u2")
        answers = await asyncio.gather(*(read(one.branch(SHORT)) for one in conversations))
        second = [text for text, _ in answers]
        # The same as in a conversation that nothing happened to.
        for n, text in enumerate(second):
            history = [
                Item("u1", Role.USER, (Speech((encode_pcm16(noise(12_000 + 1_000 * n, n)),)),)),
            ]
            other = engine.open(SETTINGS, history)
            branch = other.branch(SHORT)
            assert (await read(branch))[0] == first[n]
            other.adopt(branch, "a1", 4)
            other.hear(noise(9_000, 50 + n))
            other.commit("u2")
            assert (await read(other.branch(SHORT)))[0] == text
            other.close()
        assert engine.info.name == "gemma"
        assert engine.restarts == 1


async def test_a_checkpoint_that_cannot_hear_or_be_read_says_so(tmp_path: Path) -> None:
    deaf = supervisor(save_tiny_gemma(tmp_path / "deaf", audio=False))
    with pytest.raises(Unsupported, match="E2B and E4B hear"):
        await deaf.start(lambda *_: None)
    await deaf.stop()
    broken = save_tiny_gemma(tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5_000])
    torn = supervisor(broken)
    with pytest.raises(ModelStoreError, match=r"corrupt|cannot load"):
        await torn.start(lambda *_: None)
    await torn.stop()
