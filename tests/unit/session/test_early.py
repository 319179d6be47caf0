"""Answers begun at a pause: sent at once when the turn is over, never when it is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.session.commands import AdoptBranch, Commit, DropBranch, Pause, StartBranch
from agent.session.outputs import EarlyAnswerReport, EarlyOutcome
from tests.helpers.session import SessionDriver, only, types

MS_PER_FRAME = 32


def paused(**config) -> SessionDriver:
    """Somebody has spoken and pauses."""
    driver = SessionDriver(extensions=frozenset({"timings"}), **config)
    driver.speech(1000)
    driver.silence(192)
    return driver


def outcomes(driver: SessionDriver) -> list[str]:
    return [str(one.outcome) for one in driver.outputs if isinstance(one, EarlyAnswerReport)]


def commands(driver: SessionDriver, kind: type) -> list:
    return [command for command in driver.commands if isinstance(command, kind)]


def test_an_answer_is_begun_at_a_pause_and_released_when_the_turn_is_over():
    driver = paused()
    (branch,) = driver.branches()
    assert branch.include_open
    assert branch.optional
    kinds = [type(command) for command in driver.commands]
    assert kinds.index(Pause) < kinds.index(StartBranch)
    assert driver.text("Hel") == []
    assert driver.text("lo ") == []

    sent = driver.silence(320)
    assert types(sent) == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
    ]
    assert driver.branches() == [branch]

    sent = driver.text("there.") + driver.end()
    assert only(sent, "response.output_text.done")["text"] == "Hello there."
    adopted = commands(driver, AdoptBranch)[-1]
    assert adopted.branch_id == branch.branch_id
    assert adopted.after == commands(driver, Commit)[-1].item_id
    assert outcomes(driver) == ["begun", "kept"]


def test_an_answer_that_was_complete_before_the_turn_was_over_is_sent_whole():
    driver = paused()
    driver.text("Yes.")
    driver.end()
    sent = driver.silence(320)
    done = only(sent, "response.done")["response"]
    assert done["status"] == "completed"
    assert done["output"][0]["content"][0]["text"] == "Yes."
    assert done["usage"]["total_tokens"] == 34
    assert commands(driver, AdoptBranch)
    assert driver.turn()[-1]["type"] == "response.created"


def test_going_on_drops_it_without_a_trace():
    driver = paused()
    early = driver.branches()[0]
    driver.text("Too soon")
    driver.speech(500)
    assert DropBranch(early.branch_id) in driver.commands
    assert driver.text(" to say", early) == []
    sent = driver.silence(192) + driver.silence(320)
    assert "response.output_text.delta" not in types(sent)
    late = driver.branches()[1]
    assert only(driver.text("Now.", late), "response.output_text.delta")["delta"] == "Now."
    assert outcomes(driver) == ["begun", "dropped", "begun", "kept"]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "session.update", "session": {"instructions": "Be brief."}},
        {"type": "input_audio_buffer.clear"},
        {"type": "response.create"},
        {"type": "conversation.item.delete", "item_id": "a"},
        {"type": "conversation.item.truncate", "item_id": "b", "text_end": 1},
        {
            "type": "conversation.item.create",
            "item": {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "by the way"}],
            },
        },
    ],
)
def test_what_changes_the_conversation_drops_it(event):
    driver = SessionDriver()
    for item_id, role, kind in (("a", "user", "input_text"), ("b", "assistant", "output_text")):
        content = [{"type": kind, "text": "hello"}]
        item = {"id": item_id, "type": "message", "role": role, "content": content}
        driver.say({"type": "conversation.item.create", "item": item})
    driver.speech(1000)
    driver.silence(192)
    early = driver.branches()[0]
    driver.text("Early", early)
    sent = driver.say(event) + driver.silence(320)
    assert DropBranch(early.branch_id) in driver.commands
    assert "response.output_text.delta" not in types(sent)
    if event["type"] not in {"input_audio_buffer.clear", "response.create"}:
        assert only(sent, "response.created")
        assert not driver.branches()[-1].include_open


def test_a_commit_in_the_pause_keeps_it():
    driver = paused()
    driver.text("Sure.")
    sent = driver.say({"type": "input_audio_buffer.commit"})
    assert only(sent, "response.output_text.delta")["delta"] == "Sure."


def test_frames_that_stop_coming_in_the_pause_keep_it():
    driver = paused()
    driver.text("Sure.")
    assert only(driver.wait(1.0), "response.output_text.delta")["delta"] == "Sure."


@pytest.mark.parametrize("after_text", [False, True])
def test_one_that_fails_or_is_refused_is_begun_again_at_the_end_of_the_turn(after_text):
    driver = paused()
    if after_text:
        driver.text("Half")
    assert driver.fail() == []
    sent = driver.silence(320)
    assert "response.output_text.delta" not in types(sent)
    assert len(driver.branches()) == 2
    assert only(driver.text("Whole."), "response.output_text.delta")["delta"] == "Whole."
    assert outcomes(driver) == ["begun", "failed"]


def test_one_that_fails_after_the_turn_is_begun_again_unless_text_was_sent():
    driver = paused()
    early = driver.branches()[0]
    driver.silence(320)
    assert driver.fail(early) == []
    assert DropBranch(early.branch_id) in driver.commands
    again = driver.branches()[-1]
    assert not again.include_open
    assert not again.optional
    sent = driver.text("Hi.", again) + driver.end(again)
    assert only(sent, "response.done")["response"]["status"] == "completed"

    driver = paused()
    driver.text("Half")
    driver.silence(320)
    assert only(driver.fail(), "response.done")["response"]["status"] == "failed"


@pytest.mark.parametrize("held_first", [False, True])
def test_one_that_fails_while_its_text_waits_is_begun_again_without_that_text(held_first):
    """Nobody has seen any of it; a machine that stands still may well lose its engine, too."""
    driver = paused()
    if held_first:
        driver.hold()
        driver.text("Half")
        driver.silence(320)
    else:
        driver.silence(320)
        driver.hold()
        driver.text("Half")
    assert driver.fail() == []
    again = driver.branches()[-1]
    assert not again.include_open
    assert driver.text("Whole.", again) + driver.end(again) == []
    sent = driver.hold(held=False)
    assert only(sent, "response.output_text.done")["text"] == "Whole."
    assert only(sent, "response.done")["response"]["status"] == "completed"


@pytest.mark.parametrize(
    "detection", [{"create_response": False}, {"silence_duration_ms": 100}], ids=str
)
def test_none_is_begun_that_would_not_be_sent(detection):
    detection = {"type": "server_vad", **detection}
    driver = paused(audio={"input": {"turn_detection": detection}})
    assert not any(branch.include_open for branch in driver.branches())


def test_none_is_begun_when_switched_off_or_over_another_answer():
    assert paused(answers_early=False).branches() == []
    driver = SessionDriver()
    driver.turn()
    driver.text("I am talking")
    driver.speech(160)
    driver.silence(192)
    assert len([branch for branch in driver.branches() if branch.include_open]) == 1


def test_the_token_limit_of_the_session_holds():
    driver = paused(max_output_tokens=7)
    assert driver.branches()[0].max_output_tokens == 7


def test_timings_leave_out_what_was_done_before_the_turn_was_over():
    driver = paused()
    driver.text("Hi.")
    driver.end(stages_ms={"recognition": 30.0, "prompt": 20.0})
    sent = driver.silence(320)
    timings = only(sent, "voice_agent.turn.timings")
    assert timings["stages_ms"]["recognition"] == 0
    assert timings["speech_end_to_first_token_ms"] == timings["stages_ms"]["endpointing"]

    driver = paused()
    driver.silence(320)
    driver.text("Hi.")  # 50 ms after the turn was over, 370 ms after it was begun
    sent = driver.end(stages_ms={"recognition": 300.0, "prompt": 70.0})
    stages = only(sent, "voice_agent.turn.timings")["stages_ms"]
    assert stages["recognition"] == 0
    assert stages["prompt"] == pytest.approx(50, abs=1)
    assert stages["other"] == pytest.approx(0, abs=1)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([96, 160, 480, 992]),  # speech
            st.sampled_from([64, 192, 256, 448, 512, 704]),  # a pause, or the end
            st.integers(0, 3),  # pieces of text in the pause, one a frame
            st.sampled_from(["", "end", "fail"]),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=300, deadline=None)
def test_random_pauses_never_send_text_of_a_dropped_answer(steps):
    driver = SessionDriver()
    given_text: dict[str, str] = {}
    for speech_ms, silence_ms, pieces, ending in steps:
        driver.speech(speech_ms)
        for number in range(silence_ms // MS_PER_FRAME):
            driver.silence(MS_PER_FRAME)
            branch = driver.branches()[-1] if driver.branches() else None
            if branch is not None and number >= 6 and number - 6 < pieces:
                text = f"{branch.branch_id}:{number} "
                given_text[branch.branch_id] = given_text.get(branch.branch_id, "") + text
                driver.text(text, branch)
        if branch is not None and ending:
            driver.end(branch) if ending == "end" else driver.fail(branch)
    driver.silence(704)

    dropped = {c.branch_id for c in driver.commands if isinstance(c, DropBranch)}
    texts = [e["delta"] for e in driver.events if e["type"] == "response.output_text.delta"]
    adopted = {c.branch_id: c for c in driver.commands if isinstance(c, AdoptBranch)}
    for branch_id, command in adopted.items():
        # The engine keeps exactly what the client got.
        mine = "".join(text for text in texts if text.startswith(f"{branch_id}:"))
        assert given_text[branch_id][: command.upto] == mine
    early = {branch.branch_id for branch in driver.branches() if branch.include_open}
    never_sent = {text.partition(":")[0] for text in texts}
    begun = outcomes(driver)
    assert begun.count(EarlyOutcome.BEGUN) == len(early)
    kept = begun.count(EarlyOutcome.KEPT)
    gone = begun.count(EarlyOutcome.DROPPED) + begun.count(EarlyOutcome.FAILED)
    assert kept + gone == len(early)
    # Of those that were dropped, only the ones of a response that failed had been sent.
    failed = sum(
        e["response"]["status"] == "failed" for e in driver.events if e["type"] == "response.done"
    )
    assert len(never_sent & dropped) <= failed


@given(
    before=st.lists(st.sampled_from(["text", "hold", "release", "turn ends"]), max_size=8),
    after=st.lists(st.sampled_from(["text", "hold", "release", "turn ends"]), max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_a_turn_whose_engine_dies_is_answered_unless_somebody_saw_text(before, after):
    driver = paused()
    is_over = False

    def do(step: str) -> None:
        nonlocal is_over
        if step == "text" and driver.branches()[-1].branch_id not in done:
            driver.text(f"{driver.branches()[-1].branch_id} ")
        elif step in {"hold", "release"}:
            driver.hold(held=step == "hold")
        elif step == "turn ends" and not is_over:
            driver.silence(320)
            is_over = True

    done: set[str] = set()
    for step in before:
        do(step)
    was_seen = "response.output_text.delta" in types(driver.events)
    first = driver.branches()[-1].branch_id
    driver.fail()
    done.add(first)
    for step in (*after, "turn ends", "release"):
        do(step)
    if not was_seen:
        assert driver.branches()[-1].branch_id != first
        do("text")
        driver.end()
    response = only(driver.events, "response.done")["response"]
    assert response["status"] == ("failed" if was_seen else "completed")
    texts = [e["delta"] for e in driver.events if e["type"] == "response.output_text.delta"]
    assert {text.strip() == first for text in texts} == {was_seen}
