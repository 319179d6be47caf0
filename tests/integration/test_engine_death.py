"""A session whose engine process is killed, from the microphone to the text."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from agent.metrics import Metrics
from tests.integration.test_driver import buzz, counted, driven
from tests.integration.test_engine_process import running


async def until_counted(metrics: Metrics, outcome: str) -> None:
    while not counted(metrics).get(outcome):  # noqa: ASYNC110  # no event
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("turn_is_over", [False, True])
async def test_an_early_answer_of_which_no_text_had_come_is_asked_for_again(
    tmp_path: Path, turn_is_over: bool
) -> None:
    gate, metrics = tmp_path / "gate", Metrics()
    async with (
        running({"answer_gate": str(gate)}) as engine,
        # Here the client alone ends the turn, however slow the machine is.
        driven(engine, metrics, vad={"silence_duration_ms": 10_000}) as transport,
    ):
        transport.speak(np.concatenate([buzz(1.0), np.zeros(7_200, np.float32)]))
        await until_counted(metrics, "begun")
        if turn_is_over:
            transport.say(type="input_audio_buffer.commit")
            await transport.until("response.created")
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        if not turn_is_over:
            await until_counted(metrics, "failed")
            transport.say(type="input_audio_buffer.commit")
        gate.touch()
        done = await transport.until("response.done")
        assert engine.restarts == 1
    assert done["response"]["status"] == "completed"
    assert done["response"]["output"]
    assert counted(metrics) == {"begun": 1, "kept" if turn_is_over else "failed": 1}
