"""The supervisor with real engine processes that crash, hang and are killed."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from agent.config import EngineProcessSettings
from agent.engine.branches import BranchDone, BranchKind, BranchRequest, FinishReason, TextDelta
from agent.engine.child import EngineSpec
from agent.engine.contract import Branch, Conversation, ConversationSettings
from agent.engine.supervisor import EngineState, EngineSupervisor
from agent.errors import ClipTooLong, EngineError, EngineFailed, EngineUnavailable
from tests.helpers.engines import read, started, user
from tests.helpers.patience import PATIENCE_S
from tests.helpers.scripted_engine import FACTORY, INFO, spoken

ROOT = Path(__file__).resolve().parents[2]
ANSWER = BranchRequest(BranchKind.ANSWER)


def supervisor(options: dict[str, object] | None = None, **settings: Any) -> EngineSupervisor:
    spec = EngineSpec(FACTORY, options or {}, INFO, {"PYTHONPATH": str(ROOT)})
    return EngineSupervisor(spec, EngineProcessSettings(**settings))


@asynccontextmanager
async def running(
    options: dict[str, object] | None = None, **settings: Any
) -> AsyncIterator[EngineSupervisor]:
    async with started(supervisor(options, **settings), PATIENCE_S) as engine:
        yield engine


def ask(conversation: Conversation, item_id: str, text: str) -> Branch:
    conversation.insert(user(item_id, text))
    return conversation.branch(ANSWER)


async def first_text(branch: Branch) -> tuple[str, Any]:
    """The first piece of text, and an iterator for the rest."""
    pieces = aiter(branch)
    piece = await anext(pieces)
    assert isinstance(piece, TextDelta)
    return piece.text, pieces


async def until(engine: EngineSupervisor, state: EngineState, restarts: int = 0) -> None:
    while engine.state is not state or engine.restarts < restarts:  # noqa: ASYNC110  # no event
        await asyncio.sleep(0.01)


async def test_the_process_stands_back_by_as_much_as_it_is_told() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    spec = EngineSpec(FACTORY, {}, INFO, {"PYTHONPATH": str(ROOT)}, nice=3)
    async with started(EngineSupervisor(spec, EngineProcessSettings()), PATIENCE_S) as engine:
        assert engine.pid is not None
        assert os.getpriority(os.PRIO_PROCESS, engine.pid) == min(19, ours + 3)


async def process_of(conversation: Conversation, item_id: str) -> int:
    text, _ = await read(ask(conversation, item_id, "pid"))
    return int(text)


async def test_an_answer_comes_from_another_process_and_is_adopted() -> None:
    async with running() as engine:
        conversation = engine.open(ConversationSettings("Be brief."))
        branch = ask(conversation, "q1", "say one two")
        text, done = await read(branch)
        conversation.adopt(branch, "a1", len("one"))
        history, _ = await read(ask(conversation, "q2", "history"))
        assert await process_of(conversation, "q3") == engine.pid != os.getpid()
    assert (text, done.reason) == ("one two ", FinishReason.STOP)
    assert done.stages_ms == {"prompt": 1.0}
    assert history == "q1 user say one two | a1 assistant one | q2 user history"


async def test_speech_is_committed_in_clips_and_known_to_the_history() -> None:
    async with running() as engine:
        conversation = engine.open(ConversationSettings())
        conversation.hear(np.concatenate([spoken(7), spoken(8)]))
        conversation.cut(160)
        conversation.pause()
        conversation.hear(np.zeros(100, np.float32))
        committed = await conversation.commit("u1")
        transcript, _ = await read(
            conversation.branch(BranchRequest(BranchKind.TRANSCRIPT, item_id="u1"))
        )
        assert conversation.backlog_s == 0
    assert committed.transcript == "7 8"
    assert transcript == "7 8 "


async def test_what_the_contract_forbids_is_refused_here_and_harms_nothing() -> None:
    async with running() as engine:
        conversation = engine.open(ConversationSettings())
        with pytest.raises(ClipTooLong):
            conversation.hear(np.zeros(480_000, np.float32))
        with pytest.raises(ValueError, match="no open utterance"):
            conversation.commit("u1")
        with pytest.raises(ValueError, match="cannot keep"):
            conversation.cut(1)
        text, _ = await read(ask(conversation, "q1", "say fine"))
    assert text == "fine "


async def test_a_cancelled_answer_ends_as_cancelled() -> None:
    async with running() as engine:
        branch = ask(engine.open(ConversationSettings()), "q1", "hang")
        _, pieces = await first_text(branch)
        branch.cancel()
        done = await anext(pieces)
    assert done.reason is FinishReason.CANCELLED


async def test_an_engine_error_reaches_the_one_who_asked_and_nobody_else() -> None:
    async with running() as engine:
        conversation = engine.open(ConversationSettings())
        branch = ask(conversation, "q1", "fail")
        with pytest.raises(EngineError, match="told to fail"):
            await read(branch)
        assert engine.restarts == 0
        text, _ = await read(ask(conversation, "q2", "say on"))
    assert text == "on "


async def test_a_crash_fails_the_answer_and_the_next_turn_knows_the_history() -> None:
    async with running() as engine:
        conversation, other = (engine.open(ConversationSettings()) for _ in range(2))
        said = ask(conversation, "q1", "say hello")
        await read(said)
        conversation.adopt(said, "a1", 5)
        other.insert(user("o1", "history"))
        with pytest.raises(EngineUnavailable):
            await read(ask(conversation, "q2", "crash"))
        history, _ = await read(ask(conversation, "q3", "history"))
        elsewhere, _ = await read(other.branch(ANSWER))
        assert engine.restarts == 1
        assert engine.state is EngineState.READY
        assert engine.health.ready
    assert history == ("q1 user say hello | a1 assistant hello | q2 user crash | q3 user history")
    assert elsewhere == "o1 user history"


async def test_part_of_a_failed_answer_can_still_be_adopted() -> None:
    async with running() as engine:
        conversation = engine.open(ConversationSettings())
        branch = ask(conversation, "q1", "crash")
        with pytest.raises(EngineUnavailable):
            await read(branch)
        conversation.adopt(branch, "a1", 5)
        await until(engine, EngineState.READY, restarts=1)
        history, _ = await read(ask(conversation, "q2", "history"))
    assert history == "q1 user crash | a1 assistant crash | q2 user history"


async def test_a_killed_process_loses_nothing_that_was_said(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with running({"gate": str(gate)}) as engine:
        conversation = engine.open(ConversationSettings())
        conversation.insert(user("q1", "say x"))
        conversation.hear(np.concatenate([spoken(1), spoken(2)]))
        conversation.cut(160)
        committing = conversation.commit("u1")
        transcript = conversation.branch(BranchRequest(BranchKind.TRANSCRIPT, item_id="u1"))
        given, pieces = await first_text(transcript)
        conversation.insert(user("q2", "history"))
        conversation.hear(spoken(3))
        assert conversation.backlog_s == 320 / 16_000
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(engine, EngineState.RESTARTING)
        conversation.hear(spoken(3))  # heard while there is no engine
        late = conversation.branch(ANSWER)  # waits for one
        await until(engine, EngineState.READY, restarts=1)
        gate.touch()
        rest = [piece async for piece in pieces]
        assert (await committing).transcript == "1 2"
        history, _ = await read(late)
        conversation.pause()
        assert (await conversation.commit("u2")).transcript == "3"
    assert given == "1 "
    assert rest[0] == TextDelta("2 ")  # not the first word again
    assert isinstance(rest[1], BranchDone)
    assert history == "q1 user say x | u1 user 1 2 | q2 user history"


async def test_an_answer_that_waits_sees_the_items_it_was_asked_on() -> None:
    async with running() as engine:
        conversation = engine.open(ConversationSettings())
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(engine, EngineState.RESTARTING)
        first = ask(conversation, "q1", "history")
        second = ask(conversation, "q2", "history")
        conversation.delete("q1")
        texts = [(await read(branch))[0] for branch in (first, second)]
    assert texts == ["q1 user history", "q1 user history | q2 user history"]


async def test_speech_that_kills_the_engine_twice_is_inaudible_from_then_on() -> None:
    async with running({"deadly": "13"}) as engine:
        conversation = engine.open(ConversationSettings())
        conversation.hear(spoken(13))
        with pytest.raises(EngineUnavailable):
            await conversation.commit("u1")
        await until(engine, EngineState.READY, restarts=2)
        history, _ = await read(ask(conversation, "q1", "history"))
    assert history == "u1 user  | q1 user history"


async def test_an_engine_that_hangs_is_killed_and_replaced() -> None:
    async with running(heartbeat_interval_s=0.1, heartbeats_missed=20) as engine:
        conversation = engine.open(ConversationSettings())
        with pytest.raises(EngineUnavailable):
            await read(ask(conversation, "q1", "block"))
        text, _ = await read(ask(conversation, "q2", "say back"))
        assert engine.restarts == 1
    assert text == "back "


@pytest.mark.parametrize("begins_with", ["import_s", "build_s"])
async def test_an_engine_that_takes_long_to_begin_is_waited_for(begins_with: str) -> None:
    options: dict[str, object] = {begins_with: 1.2}
    async with running(options, heartbeat_interval_s=0.5, heartbeats_missed=2) as engine:
        assert engine.restarts == 0


async def test_an_engine_that_never_gets_through_its_imports_is_killed() -> None:
    with pytest.raises(EngineUnavailable, match="while it was starting"):
        async with running({"import_s": 60}, heartbeat_interval_s=0.01, heartbeats_missed=3):
            pass


async def test_an_answer_does_not_wait_for_ever_for_an_engine(tmp_path: Path) -> None:
    stopper = tmp_path / "crash"
    async with running({"crash_while": str(stopper)}, ready_timeout_s=0.05) as engine:
        conversation = engine.open(ConversationSettings())
        stopper.touch()
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(engine, EngineState.RESTARTING)
        with pytest.raises(EngineUnavailable, match="within"):
            await read(ask(conversation, "q1", "say x"))


async def test_after_many_crashes_it_is_not_ready_but_goes_on_trying(tmp_path: Path) -> None:
    stopper = tmp_path / "crash"
    options: dict[str, object] = {"crash_while": str(stopper)}
    async with running(options, max_crashes=2, retry_s=0.2) as engine:
        conversation = engine.open(ConversationSettings())
        stopper.touch()
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(engine, EngineState.FAILED)
        assert not engine.health.available
        with pytest.raises(EngineFailed):
            engine.open(ConversationSettings())
        with pytest.raises(EngineFailed):
            await read(ask(conversation, "q1", "say x"))
        conversation.hear(spoken(5))
        with pytest.raises(EngineFailed):
            await conversation.commit("u1")
        stopper.unlink()
        await until(engine, EngineState.READY)
        history, _ = await read(ask(conversation, "q2", "history"))
    assert history == "q1 user say x | u1 user 5 | q2 user history"


async def test_an_engine_that_cannot_start_says_why() -> None:
    engine = supervisor({"cannot_start": "no model here"})
    seen: list[tuple[str, float | None]] = []
    with pytest.raises(EngineError, match="no model here"):
        await engine.start(lambda *step: seen.append(step))
    await engine.stop()
    assert seen == [("Learning the script", 0.5)]
    assert engine.pid is None


async def test_a_process_that_dies_while_it_starts_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "crash").touch()
    engine = supervisor({"crash_while": str(tmp_path / "crash")})
    with pytest.raises(EngineUnavailable, match="while it was starting"):
        await engine.start(lambda *_: None)
    await engine.stop()
    assert engine.state is not EngineState.READY


async def test_stopping_ends_the_process_and_what_waits_for_it() -> None:
    async with running() as engine:
        conversation = engine.open(ConversationSettings())
        branch = ask(conversation, "q1", "hang")
        await first_text(branch)
        pid = engine.pid
        assert pid is not None
        await engine.stop()
        with pytest.raises(EngineUnavailable):
            engine.open(ConversationSettings())
        conversation.close()
    assert engine.state is EngineState.STOPPED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("killed", [False, True])
async def test_no_files_stay_behind(
    killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with running(max_crashes=1) as engine:
        assert len(os.listdir(tmp_path)) == 1
        if killed:
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            await until(engine, EngineState.FAILED)
    assert os.listdir(tmp_path) == []


async def test_a_closed_conversation_ends_its_branches() -> None:
    async with running() as engine:
        conversation = engine.open(ConversationSettings())
        _, pieces = await first_text(ask(conversation, "q1", "hang"))
        conversation.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await anext(pieces)


def test_all_of_it_works_on_uvloop_too() -> None:
    async def crash_once() -> str:
        async with running() as engine:
            conversation = engine.open(ConversationSettings())
            with pytest.raises(EngineUnavailable):
                await read(ask(conversation, "q1", "crash"))
            text, _ = await read(ask(conversation, "q2", "say again"))
            return text

    assert uvloop.run(crash_once()) == "again "


def test_the_engine_leaves_when_the_gateway_is_killed() -> None:
    """A gateway that is killed cannot say goodbye; its engine must not stay behind."""
    script = textwrap.dedent("""
        import asyncio
        from agent.logs import configure_logging
        from tests.integration.test_engine_process import supervisor

        async def main():
            configure_logging("info")
            engine = supervisor()
            await engine.start(lambda *_: None)
            print(engine.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """)
    gateway = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        assert gateway.stdout is not None
        pid = int(gateway.stdout.readline())
        engine = os.pidfd_open(pid)
        assert os.getsid(pid) == pid  # Ctrl-C at the gateway's terminal does not reach it
    finally:
        gateway.kill()
        gateway.communicate()
    # A pidfd becomes readable when its process has ended.
    assert select.select([engine], [], [], PATIENCE_S)[0]
    os.close(engine)


async def test_speech_is_translated_by_the_next_process_when_one_dies_of_something(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    translation = BranchRequest(BranchKind.TRANSLATION, item_id="u1")
    async with running({"gate": str(gate)}) as engine:
        conversation = engine.open(ConversationSettings(translate_into="es"))
        conversation.hear(spoken(7))
        committed = conversation.commit("u1")
        branch = conversation.branch(translation)
        source, rest = await first_text(branch)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(engine, EngineState.READY, restarts=1)
        gate.touch()
        pieces = [piece async for piece in rest]
        assert (await committed).transcript == "7"
    assert (source, pieces[0]) == ("7", TextDelta("7 in es"))
    assert isinstance(pieces[-1], BranchDone)
