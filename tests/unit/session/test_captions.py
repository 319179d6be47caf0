"""Live captions in the session: when passes run, what is sent, and what becomes of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.session.commands import BranchPurpose, Commit, DropBranch, Forget
from tests.helpers.session import SessionDriver, only, types

CAPTION, TRANSCRIPT = BranchPurpose.CAPTION, BranchPurpose.TRANSCRIPT
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"


def captioned(**config):
    return SessionDriver(type="transcription", **config)


def passes(driver):
    return driver.branches(CAPTION)


def heard(driver, text):
    """The last pass hears that."""
    branch = passes(driver)[-1]
    return driver.text(text, branch) + driver.end(branch)


def deltas(events):
    return [event["delta"] for event in events if event["type"] == DELTA]


def test_words_are_sent_while_they_are_spoken_once_two_passes_agree():
    driver = captioned()
    driver.speech(1000)
    assert len(passes(driver)) == 1
    assert passes(driver)[0].item_id is None
    assert heard(driver, "my name is John") == []
    driver.speech(900)
    sent = heard(driver, "My name is Joan Smith")
    assert deltas(sent) == ["My name is"]
    started = only(driver.events, "input_audio_buffer.speech_started")
    assert sent[0]["item_id"] == started["item_id"]

    driver.silence(700)
    (branch,) = driver.branches(TRANSCRIPT)
    sent = driver.text("My name is Joan Smith.", branch) + driver.end(branch)
    assert types(sent) == [DELTA, COMPLETED]
    assert deltas(driver.events) == ["My name is", " Joan Smith."]
    assert sent[-1]["transcript"] == "My name is Joan Smith."


def test_the_final_transcript_may_correct_what_was_shown_but_deltas_take_nothing_back():
    driver = captioned()
    for _ in range(2):
        driver.speech(1000)
        heard(driver, "I scream for")
    driver.silence(700)
    (branch,) = driver.branches(TRANSCRIPT)
    sent = driver.text("Ice cream for all.", branch) + driver.end(branch)
    assert "".join(deltas(driver.events)) == "I scream for all."
    assert sent[-1]["transcript"] == "Ice cream for all."


def test_one_pass_at_a_time_and_only_for_new_speech():
    driver = captioned()
    driver.speech(1900)
    assert len(passes(driver)) == 1
    heard(driver, "one")  # so much new speech has come that the next one starts at once …
    assert len(passes(driver)) == 1  # … after the engine had its rest
    driver.speech(600)
    assert len(passes(driver)) == 2
    heard(driver, "one")
    driver.speech(600)
    assert len(passes(driver)) == 2


def test_a_pause_is_captioned_once_at_once():
    driver = captioned()
    driver.speech(1000)
    heard(driver, "yes")
    driver.silence(400)
    assert len(passes(driver)) == 2
    assert deltas(heard(driver, "Yes.")) == ["Yes"]
    driver.silence(64)
    assert len(passes(driver)) == 2


def test_a_slow_engine_rests_longer():
    driver = captioned()
    driver.speech(6000)
    heard(driver, "so slow")  # took over 5 s
    driver.speech(8000)
    assert len(passes(driver)) == 1
    driver.speech(2500)
    assert len(passes(driver)) == 2


def test_a_pass_under_way_is_dropped_when_the_turn_ends():
    driver = captioned()
    driver.turn(1000)
    (branch,) = passes(driver)
    kinds = [type(command) for command in driver.commands]
    assert kinds.index(DropBranch) > kinds.index(Commit)
    assert driver.text("too late", branch) + driver.end(branch) == []


def test_a_pass_under_way_is_dropped_when_the_turn_is_forgotten():
    driver = captioned()
    driver.speech(1000)
    driver.say({"type": "input_audio_buffer.clear"})
    driver.silence(32)
    assert [type(c) for c in driver.commands if isinstance(c, Forget | DropBranch)] == [
        Forget,
        DropBranch,
    ]
    driver.speech(1000)
    assert len(passes(driver)) == 2


def test_a_pass_that_fails_is_followed_by_the_next():
    driver = captioned()
    driver.speech(1000)
    assert driver.fail(passes(driver)[-1]) == []
    driver.speech(1000)
    assert len(passes(driver)) == 2


def test_a_client_that_commits_its_turns_gets_captions_too():
    driver = captioned(audio={"input": {"turn_detection": None}})
    driver.speech(1000)
    heard(driver, "hello there")
    driver.speech(1000)
    (delta,) = heard(driver, "hello there you")
    driver.say({"type": "input_audio_buffer.commit"})
    assert only(driver.events, "input_audio_buffer.committed")["item_id"] == delta["item_id"]


@pytest.mark.parametrize(
    ("extensions", "transcription", "runs"),
    [((), {"model": "x"}, 0), (("captions",), {"model": "x"}, 1), (("captions",), None, 0)],
)
def test_a_conversation_has_captions_when_it_asks_for_them(extensions, transcription, runs):
    driver = SessionDriver(
        extensions=frozenset(extensions), audio={"input": {"transcription": transcription}}
    )
    driver.speech(1500)
    assert len(passes(driver)) == runs


def test_captions_end_with_the_transcription_they_belong_to():
    driver = captioned_conversation()
    driver.speech(1500)
    driver.say({"type": "session.update", "session": {"audio": {"input": {"transcription": None}}}})
    driver.speech(1500)
    assert len(passes(driver)) == 1
    assert any(isinstance(command, DropBranch) for command in driver.commands)


def captioned_conversation():
    return SessionDriver(
        extensions=frozenset({"captions"}), audio={"input": {"transcription": {"model": "x"}}}
    )


words = st.lists(st.sampled_from(["a", "b", "c", "A,", "b.", "…"]), max_size=5).map(" ".join)
steps = st.lists(
    st.tuples(st.sampled_from(["speech", "silence"]), st.sampled_from([200, 900]), words)
    | st.tuples(st.just("heard"), st.booleans(), words),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(steps=steps, final=words)
def test_the_deltas_of_an_item_end_before_its_transcript_whatever_happens(steps, final):
    """Every delta belongs to a turn that was announced and is not transcribed yet."""
    driver = captioned()
    running = []
    for kind, argument, text in steps:
        if kind == "heard":
            if running:
                branch = running.pop(0)
                driver.text(text, branch)
                _ = driver.end(branch) if argument else driver.fail(branch)
        else:
            before = len(driver.commands)
            getattr(driver, kind)(argument)
            running += [c for c in driver.commands[before:] if hasattr(c, "purpose")]
    driver.silence(700)
    ended = {
        event["item_id"]
        for event in driver.events
        if event["type"].startswith(COMPLETED.removesuffix("completed"))
        and not event["type"].endswith("delta")
    }
    for branch in driver.branches(TRANSCRIPT):
        if branch.item_id not in ended:
            driver.text(final, branch)
            driver.end(branch)
    announced, done = set(), set()
    for event in driver.events:
        if event["type"] == "input_audio_buffer.speech_started":
            announced.add(event["item_id"])
        elif event["type"] == DELTA:
            assert event["delta"]
            assert event["item_id"] in announced - done
        elif event["type"] == COMPLETED:
            done.add(event["item_id"])
    one_pass_at_a_time(driver)


def one_pass_at_a_time(driver):
    turns = [c for c in driver.commands if isinstance(c, Commit)]
    assert len(driver.branches(TRANSCRIPT)) == len(turns)
