"""Turns of `semantic_vad`: scores that come in time, late, never, and after speech went on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import TurnSettings
from agent.session.commands import BranchPurpose, Commit, DropBranch, Pause, StartBranch
from agent.session.outputs import DropScore
from agent.turns.endpointing import LIMIT_MS, UNKNOWN_MS
from agent.turns.scorers import TURN_SAMPLES
from tests.helpers.by_hand import FRAME_MS
from tests.helpers.session import SessionDriver, types

SEMANTIC = {"type": "semantic_vad", "eagerness": "medium"}
STOPPED = "input_audio_buffer.speech_stopped"


def session(
    detection: dict[str, Any] | None = None, *, hears_words: bool = False, **settings: Any
) -> SessionDriver:
    audio = {"input": {"turn_detection": detection or SEMANTIC}}
    return SessionDriver(audio=audio, turns=TurnSettings(**settings), hears_words=hears_words)


def ended(driver: SessionDriver) -> bool:
    return STOPPED in types(driver.events)


def silence_until_the_end(driver: SessionDriver, at_most_ms: int = 9_000) -> int:
    """Milliseconds of further silence until the turn ends."""
    for frames in range(1, at_most_ms // FRAME_MS):
        if STOPPED in types(driver.silence(FRAME_MS)):
            return frames * FRAME_MS
    raise AssertionError("the turn does not end")


def test_a_pause_is_judged_once_with_the_sound_of_its_turn():
    driver = session()
    driver.silence(1_000)
    driver.speech(1_000)
    assert driver.pauses == []
    driver.silence(500)
    (pause,) = driver.pauses
    # Pre-roll, speech, and the silence after which a pause is one.
    assert len(pause.samples) == pytest.approx(16 * (300 + 1_000 + 192), abs=2 * 512)
    assert not pause.samples[-6 * 512 :].any()
    assert pause.samples[-7 * 512 :].any()


def test_a_silence_is_judged_before_it_is_a_pause():
    driver = session()
    driver.speech(1_000)
    driver.silence(96)
    assert driver.pauses == []
    driver.silence(32)
    assert len(driver.pauses) == 1
    assert not any(isinstance(command, Pause) for command in driver.commands)
    driver.silence(64)
    assert any(isinstance(command, Pause) for command in driver.commands)
    assert len(driver.pauses) == 1


def test_the_model_is_asked_at_the_pause_alone():
    driver = session(scorer="model")
    driver.speech(1_000)
    driver.silence(160)
    assert driver.pauses == []
    driver.silence(32)
    assert len(driver.pauses) == 1


def test_a_silence_that_is_no_pause_is_not_waited_for():
    driver = session()
    driver.speech(1_000)
    driver.silence(160)
    (first,) = driver.pauses
    driver.speech(64)
    assert driver.outputs.count(DropScore(first.number)) == 1
    assert driver.judge(0.99, first) == []
    driver.silence(192)
    assert len(driver.pauses) == 2
    assert silence_until_the_end(driver) + 192 >= UNKNOWN_MS["medium"]


def test_a_score_before_the_pause_counts_in_it_and_not_in_the_next():
    driver = session(min_endpointing_delay_ms=256)
    driver.speech(1_000)
    driver.silence(128)
    assert driver.judge(0.99) == []
    driver.speech(64)
    assert silence_until_the_end(driver) >= UNKNOWN_MS["medium"]
    driver.speech(1_000)
    driver.silence(128)
    driver.judge(0.99)
    assert silence_until_the_end(driver) == 256 - 128
    assert not [output for output in driver.outputs if output == DropScore(1)]


def test_a_score_that_nobody_waits_for_is_dropped_with_the_turn():
    driver = session()
    driver.speech(1_000)
    silence_until_the_end(driver)
    assert driver.outputs.count(DropScore(1)) == 1


def test_of_a_long_turn_the_last_eight_seconds_count():
    driver = session()
    driver.speech(20_000)
    driver.silence(200)
    assert len(driver.pauses[0].samples) == TURN_SAMPLES


def test_a_sure_end_ends_the_turn_at_the_shortest_wait():
    driver = session(min_endpointing_delay_ms=256)
    driver.speech(1_000)
    driver.silence(192)
    assert driver.judge(0.99) == []
    assert silence_until_the_end(driver) == 256 - 192


def test_a_sure_end_that_comes_after_the_wait_ends_the_turn_at_once():
    driver = session()
    driver.speech(1_000)
    driver.silence(600)
    assert STOPPED in types(driver.judge(0.99))
    assert any(isinstance(command, Commit) for command in driver.commands)


def test_somebody_who_has_not_finished_is_waited_for():
    driver = session()
    driver.speech(1_000)
    driver.silence(192)
    driver.judge(0.0)
    driver.silence(1_500)
    assert not ended(driver)
    assert silence_until_the_end(driver) + 1_692 <= LIMIT_MS["medium"]


@pytest.mark.parametrize("eagerness", ["low", "medium", "high", "auto"])
def test_without_a_judgement_the_wait_is_fixed(eagerness):
    driver = session({"type": "semantic_vad", "eagerness": eagerness})
    driver.speech(1_000)
    waited_ms = silence_until_the_end(driver)
    assert UNKNOWN_MS[eagerness] <= waited_ms < UNKNOWN_MS[eagerness] + FRAME_MS


def test_a_judgement_after_speech_went_on_is_ignored():
    driver = session()
    driver.speech(1_000)
    driver.silence(300)
    driver.speech(64)
    assert driver.judge(0.99) == []
    assert silence_until_the_end(driver) >= UNKNOWN_MS["medium"]
    assert len(driver.pauses) == 2


def test_a_judgement_of_the_pause_before_is_ignored():
    driver = session()
    driver.speech(1_000)
    driver.silence(300)
    driver.speech(500)
    driver.silence(300)
    first, second = driver.pauses
    assert driver.judge(0.99, first) == []
    assert STOPPED in types(driver.judge(0.99, second))


def test_the_next_pause_is_judged_anew():
    driver = session()
    driver.speech(1_000)
    driver.silence(192)
    driver.judge(0.0)
    driver.speech(500)
    assert silence_until_the_end(driver) < UNKNOWN_MS["medium"] + FRAME_MS


def test_a_judgement_after_the_turn_is_ignored():
    driver = session()
    driver.speech(1_000)
    driver.silence(1_000)
    assert ended(driver)
    before = len(driver.events)
    driver.judge(0.99)
    assert len(driver.events) == before
    driver.speech(1_000)
    assert len(driver.pauses) == 1
    driver.silence(200)
    # Nothing of the turn before is in it.
    assert len(driver.pauses[1].samples) <= 16 * (300 + 64 + 1_000 + 192) + 512


def test_a_judgement_after_the_client_cleared_its_buffer_is_ignored():
    driver = session()
    driver.speech(1_000)
    driver.silence(300)
    driver.say({"type": "input_audio_buffer.clear"})
    assert driver.judge(0.99) == []


@pytest.mark.parametrize(
    ("probability", "before_s", "after_s"), [(0.99, 0.2, 0.1), (0.0, 2.0, 1.0)]
)
def test_a_muted_microphone_ends_the_turn_by_the_judged_wait(probability, before_s, after_s):
    driver = session()
    driver.speech(1_000)
    driver.silence(192)
    driver.judge(probability)
    assert STOPPED not in types(driver.wait(before_s))
    assert STOPPED in types(driver.wait(after_s))


@pytest.mark.parametrize("detection", [{"type": "server_vad"}, None])
def test_others_have_no_pause_judged(detection):
    driver = SessionDriver(audio={"input": {"turn_detection": detection}})
    driver.speech(1_000)
    driver.silence(400)
    assert driver.pauses == []


def test_detection_that_changes_in_a_turn_judges_from_then_on():
    driver = SessionDriver(audio={"input": {"turn_detection": {"type": "server_vad"}}})
    driver.speech(1_000)
    update = {"type": "realtime", "audio": {"input": {"turn_detection": SEMANTIC}}}
    driver.say({"type": "session.update", "session": update})
    driver.silence(300)
    (pause,) = driver.pauses
    assert len(pause.samples) == 6 * 512
    update["audio"]["input"]["turn_detection"] = {"type": "server_vad"}
    driver.say({"type": "session.update", "session": update})
    assert driver.judge(0.99) == []
    assert silence_until_the_end(driver) + 300 <= 500 + FRAME_MS


def words(driver: SessionDriver) -> StartBranch:
    """The branch that was last asked for words."""
    return driver.branches(BranchPurpose.JUDGEMENT)[-1]


def test_words_are_asked_for_after_the_engine_knows_of_the_pause():
    driver = session(hears_words=True)
    driver.speech(1_000)
    assert driver.branches(BranchPurpose.JUDGEMENT) == []
    driver.silence(300)
    kinds = [type(command).__name__ for command in driver.commands]
    assert kinds.index("Pause") < kinds.index("StartBranch")
    assert words(driver).item_id is None


def test_words_that_end_a_sentence_shorten_the_wait_and_others_lengthen_it():
    waits = []
    for text in ("and then", None, "That is all."):
        driver = session({"type": "semantic_vad", "eagerness": "low"}, hears_words=True)
        driver.speech(1_000)
        driver.silence(192)
        driver.judge(0.5)
        if text is not None:
            assert driver.text(text, words(driver)) == []
        assert driver.end(words(driver)) == []
        waits.append(silence_until_the_end(driver))
    assert waits == sorted(waits, reverse=True)
    assert len(set(waits)) == 3


def test_words_that_come_before_the_score_count_with_it():
    driver = session(hears_words=True)
    driver.speech(1_000)
    driver.silence(192)
    driver.text("and then", words(driver))
    driver.end(words(driver))
    driver.silence(192)
    driver.judge(TurnSettings().eot_threshold)
    assert not ended(driver)


def test_words_do_not_end_a_turn_that_sounds_unfinished():
    driver = session(hears_words=True)
    driver.speech(1_000)
    driver.silence(192)
    just_below = TurnSettings().eot_threshold - 0.01
    driver.judge(just_below)
    driver.silence(640)
    driver.text("That is all.", words(driver))
    driver.end(words(driver))
    assert not ended(driver)


def test_words_that_fail_leave_the_score_alone():
    driver = session(hears_words=True)
    driver.speech(1_000)
    driver.silence(288)
    assert driver.fail(words(driver)) == []
    assert STOPPED in types(driver.judge(0.99))


def test_words_of_a_pause_that_is_over_are_dropped_and_ignored():
    driver = session(hears_words=True)
    driver.speech(1_000)
    driver.silence(300)
    branch = words(driver)
    driver.speech(100)
    assert DropBranch(branch.branch_id) in driver.commands
    driver.silence(300)
    assert words(driver) != branch
    assert driver.text("That is all.", branch) == driver.end(branch) == []
    assert not ended(driver)


def test_words_under_way_are_dropped_with_the_turn():
    driver = session(hears_words=True)
    driver.speech(1_000)
    driver.silence(300)
    driver.judge(0.99)
    assert ended(driver)
    assert DropBranch(words(driver).branch_id) in driver.commands


def test_words_are_not_asked_for_with_other_detection():
    driver = SessionDriver(
        audio={"input": {"turn_detection": {"type": "server_vad"}}}, hears_words=True
    )
    driver.speech(1_000)
    driver.silence(400)
    assert driver.branches(BranchPurpose.JUDGEMENT) == []


@given(
    st.lists(
        st.tuples(
            st.integers(4, 40),  # frames of speech
            st.integers(1, 60),  # frames of silence
            st.none() | st.integers(0, 60),  # frames after which its score comes
            st.floats(0.0, 1.0),
        ),
        max_size=6,
    ),
    st.sampled_from(["low", "medium", "high", "auto"]),
)
def test_turns_end_within_the_limit_and_every_sample_is_in_a_turn_once(talk, eagerness):
    driver = session({"type": "semantic_vad", "eagerness": eagerness})
    limit_frames = LIMIT_MS[eagerness] // FRAME_MS
    for speech, silence, score_after, probability in talk:
        driver.speech(speech * FRAME_MS)
        judged = len(driver.pauses)
        for frame in range(silence):
            driver.silence(FRAME_MS)
            if score_after == frame and len(driver.pauses) > judged:
                driver.judge(probability)
    driver.silence((limit_frames + 2) * FRAME_MS)
    kinds = types(driver.events)
    assert kinds.count("input_audio_buffer.speech_started") == kinds.count(STOPPED)
    heard = [event for event in driver.events if event["type"].startswith("input_audio_buffer.s")]
    assert [event["type"].endswith("started") for event in heard] == [True, False] * (
        len(heard) // 2
    )
    starts = [event["audio_start_ms"] for event in heard[::2]]
    ends = [event["audio_end_ms"] for event in heard[1::2]]
    assert all(start < end for start, end in zip(starts, ends, strict=True))
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_the_samples_of_a_pause_are_not_written_to():
    driver = session()
    driver.speech(1_000)
    driver.silence(200)
    before = driver.pauses[0].samples.copy()
    driver.silence(400)
    assert np.array_equal(driver.pauses[0].samples, before)
