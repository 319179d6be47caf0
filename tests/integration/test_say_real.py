"""`voice-agent say` against the real server with the embedded engine and real speech."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.helpers.cli import run
from tests.helpers.server import RunningServer
from tests.helpers.speech import recording, recordings
from tests.helpers.wer import total, word_errors

pytestmark = pytest.mark.models


async def test_a_turn_in_real_time_is_answered_and_measured(small_server: RunningServer) -> None:
    clip = recording(at_least_s=2, at_most_s=4)
    done = await run("say", "--json", "--url", small_server.url, clip.path)
    assert done.status == 0, done.stderr
    line = done.lines[-1]
    assert word_errors(clip.text, line["transcript"]).rate <= 0.35
    assert line["answer"]
    assert line["status"] == "completed"
    assert 0 < line["turn_end_delay_ms"] < line["speech_end_to_first_token_ms"]
    stages_ms = line["stages_ms"]
    assert {"endpointing", "recognition", "prompt"} <= set(stages_ms)
    # The server's stages lie within what was measured from outside, up to a piece of audio.
    assert sum(stages_ms.values()) <= line["speech_end_to_first_token_ms"] + 40
    metrics = small_server.get("/metrics")
    for stage in stages_ms:
        assert f'voice_agent_stage_seconds_count{{stage="{stage}"}}' in metrics


@pytest.mark.slow
async def test_the_segmenter_loses_nothing_of_what_is_said(small_server: RunningServer) -> None:
    clips = recordings("en")
    files = [clip.path for clip in clips]
    options = ("--json", "--fast", "--no-answer", "--language", "en", "--url", small_server.url)
    done = await run("say", *options, *files, timeout_s=300)
    assert done.status == 0, done.stderr
    heard = defaultdict(list)
    for line in done.lines:
        heard[line["file"]].append(line["transcript"])
    counts = [word_errors(clip.text, " ".join(heard[str(clip.path)])) for clip in clips]
    assert total(counts).rate <= 0.06
