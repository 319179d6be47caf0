"""Speech over an answer: withheld, released or cancelled, and what the history keeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import InterruptionSettings
from agent.session.commands import (
    AdoptBranch,
    BranchPurpose,
    Commit,
    DropBranch,
    Forget,
    InsertItem,
    TruncateItem,
)
from tests.helpers.by_hand import FRAME_MS
from tests.helpers.session import (
    NO_INTERRUPTION,
    SessionDriver,
    answer,
    answering,
    cancelled,
    of_kind,
    only,
    types,
    update,
)

# ---------------------------------------------------------------- withheld


def test_once_speech_is_announced_nothing_more_is_sent():
    driver = answering(interruption=InterruptionSettings(suspect_after_ms=1_000))
    driver.speech(128)
    assert types(driver.text(" there")) == ["response.output_text.delta"]
    driver.speech(32)  # the last frame but one within 200 ms
    assert driver.text(" was") == []
    assert driver.end() == []  # not even the end


def test_what_may_be_speech_withholds_until_it_is_known():
    driver = answering()
    driver.audio(64, 0.3)
    assert types(driver.text(" there")) == ["response.output_text.delta"]
    driver.audio(32, 0.3)
    assert driver.text(" was") == driver.end() == []
    assert types(driver.silence(32))[0] == "response.output_text.delta"
    assert driver.events[-1]["type"] == "response.done"


def test_a_soft_beginning_withholds_as_early_as_a_loud_one():
    driver = answering()
    driver.silence(992)  # just after a turn it would be speech
    driver.audio(192, 0.3)
    driver.speech(128)
    assert driver.text(" there") == []
    driver.speech(192)
    driver.words(None)
    assert cancelled(driver.speech(192))
    (report,) = driver.interruptions
    assert report.arrived_at - report.withheld_at == pytest.approx(
        0.320 + 0.050
    )  # text takes 50 ms


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_may_be_speech_withholds_half_a_second_at_most(goes_on):
    """A hum that goes on is not suspected again; nor does it need frames to be over."""
    driver = answering()
    driver.silence(992)  # just after a turn it would be speech
    driver.audio(96, 0.3)
    driver.text(" there")
    sent = driver.audio(544, 0.3) if goes_on else driver.wait(0.5)
    assert types(sent) == ["response.output_text.delta"]
    driver.audio(64, 0.3)
    assert types(driver.text(" was")) == ["response.output_text.delta"]
    driver.silence(32)
    driver.audio(96, 0.3)
    assert driver.text(" a") == []


def test_a_backchannel_lets_the_answer_go_on_with_what_was_withheld():
    driver = answering()
    driver.speech(352)
    driver.text(" there", answer(driver))
    driver.silence(192)
    assert driver.text(" was", answer(driver)) == []  # the words are not known yet
    assert driver.words("Mm-hmm.") == []  # perhaps more is said
    sent = driver.silence(320)
    assert types(sent)[:2] == ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]
    deltas = [event for event in sent if event["type"] == "response.output_text.delta"]
    assert [event["delta"] for event in deltas] == [" there", " was"]
    sent = driver.end(answer(driver))
    # The short turn is in the conversation, and is not answered.
    assert types(sent)[-1] == "response.done"
    assert len(of_kind(driver, Commit)) == 2
    assert driver.reports[-1].status == "completed"
    # The answer stands before the short turn that came after it began. The engine learns of
    # it only when it has ended, so until then the short turn follows the first one.
    first, short = of_kind(driver, Commit)
    adopted = of_kind(driver, AdoptBranch)[-1]
    assert (short.after, adopted.after) == (first.item_id, first.item_id)


def test_a_short_word_before_a_short_pause_releases_nothing():
    """As in "eight, the press yard": half a word is heard as anything."""
    driver = answering()
    driver.speech(416)
    driver.silence(192)
    assert driver.words("Yeah.") == []
    driver.text(" there", answer(driver))
    sent = driver.speech(256) + driver.words("Eight, the press")
    assert cancelled(sent)
    assert "response.output_text.delta" not in types(sent)


def test_a_backchannel_in_a_turn_that_waits_long_releases_after_half_a_second():
    patient = {"type": "server_vad", "silence_duration_ms": 2000}
    driver = answering()
    driver.say(update(audio={"input": {"turn_detection": patient}}))
    driver.speech(416)
    driver.silence(192)
    driver.words("Yeah.")
    driver.text(" there", answer(driver))
    assert driver.silence(448) == []
    assert types(driver.wait(0.1)) == ["response.output_text.delta"]


@pytest.mark.parametrize("said", ["", "(coughs)", "Yes, yes.", "Genau."])
def test_sounds_and_backchannels_do_not_interrupt(said):
    driver = answering()
    driver.speech(672)
    driver.silence(192)
    sent = driver.words(said) + driver.silence(320) + driver.end(answer(driver))
    assert only(sent, "response.done")["response"]["status"] == "completed"
    assert "response.created" not in types(sent)


def test_without_words_a_pause_within_the_first_words_releases_nothing():
    driver = answering()
    driver.speech(256)
    driver.silence(192)
    assert driver.words(None) == []
    driver.text(" there", answer(driver))
    driver.silence(160)
    assert cancelled(driver.speech(256) + driver.words(None))


def test_without_words_half_a_second_of_quiet_releases_the_answer():
    driver = answering()
    driver.speech(256)
    driver.silence(192)
    driver.words(None)
    driver.text(" there", answer(driver))
    assert driver.silence(288) == []
    assert "response.output_text.delta" in types(driver.silence(64) + driver.wait(0.3))


def test_an_answer_that_ends_while_it_is_withheld_ends_when_it_is_released():
    driver = answering()
    driver.speech(352)
    driver.text(" there.", answer(driver))
    assert driver.end(answer(driver)) == []
    driver.silence(192)
    assert driver.words("yeah") == []
    sent = driver.silence(320)
    assert only(sent, "response.output_text.done")["text"] == "Once upon a time there."
    assert only(sent, "response.done")["response"]["status"] == "completed"
    assert of_kind(driver, AdoptBranch)[-1].upto == len("Once upon a time there.")
    assert "response.created" not in types(driver.silence(320))


def test_what_is_forgotten_or_cleared_releases_the_answer():
    driver = answering()
    driver.speech(352)
    driver.text(" there")
    sent = driver.say({"type": "input_audio_buffer.clear"})
    assert types(sent) == ["response.output_text.delta", "input_audio_buffer.cleared"]
    assert of_kind(driver, Forget)


def test_switching_interruption_off_releases_the_answer():
    driver = answering()
    driver.speech(352)
    driver.text(" there")
    assert "response.output_text.delta" in types(
        driver.say({"type": "session.update", "session": NO_INTERRUPTION})
    )


# ---------------------------------------------------------------- cancelled


def test_without_words_it_is_cancelled_after_500_ms_and_keeps_what_was_sent():
    driver = answering()
    driver.speech(320)
    driver.text(" there was")  # withheld, and never sent
    assert driver.words(None) == []
    assert driver.speech(160) == []
    sent = driver.speech(64)
    assert cancelled(sent)
    response = only(sent, "response.done")["response"]
    assert response["output"][0]["status"] == "incomplete"
    assert only(sent, "response.output_text.done")["text"] == "Once upon a time"
    assert of_kind(driver, AdoptBranch)[-1].upto == len("Once upon a time")
    # Text that was on its way is not sent any more.
    assert driver.text(" a king", answer(driver)) == []
    assert only(driver.silence(512), "response.created")


def test_words_that_are_no_backchannel_cancel_it_once_they_are_all_said():
    driver = answering()
    driver.speech(352)
    driver.silence(192)
    sent = driver.words("Stop.")
    assert cancelled(sent)
    assert only(driver.silence(320), "response.created")


def test_words_of_a_speaker_who_goes_on_cancel_it_at_500_ms():
    driver = answering()
    driver.speech(352)
    assert driver.words("I want") == []  # it may be half of another word
    assert cancelled(driver.speech(192))


def test_words_on_their_way_are_waited_for_up_to_a_second_of_speech():
    driver = answering()
    driver.speech(352)
    assert driver.speech(576) == []
    assert cancelled(driver.speech(96))
    # Nobody needs those words any more.
    (check,) = driver.branches(BranchPurpose.TRANSCRIPT)
    assert DropBranch(check.branch_id) in driver.commands


def test_words_that_come_after_the_turn_decide_then():
    driver = answering()
    driver.speech(352)
    driver.silence(512)
    assert driver.text(" there", answer(driver)) == []
    sent = driver.words("No, stop.")
    assert cancelled(sent)
    assert types(sent)[-1] == "response.created"


def test_words_that_do_not_come_are_not_waited_for():
    driver = answering()
    driver.speech(352)
    driver.silence(512)
    driver.text(" there", answer(driver))
    assert types(driver.wait(2.0)) == ["response.output_text.delta"]
    # Whether what was said is to be answered is decided when it is known, or cannot be.
    assert types(driver.end(answer(driver)))[-1] == "response.done"
    assert driver.wait(60.0) == []
    assert types(driver.words(None)) == ["response.created"]


def test_late_words_decide_as_well():
    driver = answering()
    driver.speech(352)
    driver.silence(512)
    driver.wait(2.0)
    driver.text(" there", answer(driver))
    sent = driver.words("Stop.")
    assert cancelled(sent)
    assert types(sent)[-1] == "response.created"


def test_an_answer_cancelled_before_its_first_text_leaves_no_item():
    driver = answering("")
    driver.speech(320)
    driver.words(None)
    sent = driver.speech(280)
    assert only(sent, "response.done")["response"]["output"] == []
    assert DropBranch(answer(driver).branch_id) in driver.commands
    assert not of_kind(driver, AdoptBranch)


def test_the_limits_are_settings():
    limits = InterruptionSettings(withhold_after_ms=100, cancel_after_ms=200, words_until_ms=200)
    driver = answering(interruption=limits)
    assert cancelled(driver.speech(224))


def test_a_response_that_the_client_creates_answers_what_waits_for_its_words():
    driver = answering()
    driver.speech(352)
    driver.silence(512)
    driver.wait(2.0)  # the words are late, so the answer goes on
    driver.end(answer(driver))
    assert types(driver.say({"type": "response.create"})) == ["response.created"]
    assert driver.reports[-1].response_id is None
    sent = driver.text("Yes?") + driver.end()
    assert only(sent, "response.done")["response"]["status"] == "completed"
    assert "response.created" not in types(sent)


# ---------------------------------------------------------------- no answer any more


@pytest.mark.parametrize("when", ["announced", "words known", "turn over"])
def test_what_was_said_over_an_answer_that_the_client_cancels_is_answered(when):
    driver = answering()
    driver.speech(160)
    if when == "announced":
        driver.say({"type": "response.cancel"})
    driver.speech(192)
    driver.silence(192)
    if when == "words known":
        driver.words("Yes.")
        driver.say({"type": "response.cancel"})
    sent = driver.silence(320)
    if when == "turn over":
        sent = driver.say({"type": "response.cancel"})
    assert types(sent)[-1] == "response.created"
    # Where it was known in time, the answer was begun at the pause as usual.
    assert driver.branches()[-1].include_open is (when == "announced")


def test_a_turn_that_goes_on_after_the_answer_has_ended_is_answered():
    driver = answering()
    driver.speech(64)
    assert types(driver.end(answer(driver)))[-1] == "response.done"
    driver.speech(256)
    assert types(driver.silence(512))[-1] == "response.created"
    assert driver.branches(BranchPurpose.TRANSCRIPT) == []


# ---------------------------------------------------------------- neither


def test_interruption_is_off_when_the_client_says_so():
    driver = answering("I go on", **NO_INTERRUPTION)
    driver.speech(1000)
    assert types(driver.text(" and on")) == ["response.output_text.delta"]
    assert "response.done" not in types(driver.silence(700))
    assert driver.branches(BranchPurpose.TRANSCRIPT) == []
    assert driver.end(answer(driver))[-1]["type"] == "response.created"


def test_several_short_turns_are_answered_once():
    driver = answering(**NO_INTERRUPTION)
    driver.turn(300)
    driver.turn(300)
    sent = driver.end(answer(driver))
    assert types(sent)[-1] == "response.created"
    assert [report.response_id is None for report in driver.reports] == [False, True]


def test_a_turn_after_a_backchannel_interrupts_as_usual():
    driver = answering()
    driver.speech(352)
    driver.silence(512)
    driver.words("mhm")
    driver.speech(320)
    driver.words(None)
    assert cancelled(driver.speech(224))


def test_the_echo_guard_lets_only_clear_speech_begin_a_turn():
    guard = InterruptionSettings(echo_guard_ms=2_000, echo_guard_threshold=0.9)
    driver = answering(interruption=guard)
    assert driver.audio(1000, 0.8) == []
    driver.end()
    assert driver.audio(640, 0.8) == []  # still the echo of its last words
    driver.silence(2_000)
    assert types(driver.audio(640, 0.8)) == ["input_audio_buffer.speech_started"]
    driver = answering(interruption=guard)
    assert types(driver.audio(160, 0.95) + driver.audio(64, 0.8)) == [
        "input_audio_buffer.speech_started"
    ]


# ---------------------------------------------------------------- any order

steps = st.lists(
    st.one_of(
        st.tuples(st.just("speech"), st.integers(1, 20)),
        st.tuples(st.just("silence"), st.integers(1, 20)),
        st.tuples(st.just("text"), st.integers(1, 3)),
        st.tuples(st.just("words"), st.sampled_from(["mhm", "stop", None])),
        st.tuples(st.just("end"), st.sampled_from(["complete", "fail"])),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 0.6, 2.0])),
        st.tuples(st.just("hold"), st.booleans()),
        st.tuples(st.just("say"), st.sampled_from(["response.cancel", "truncate", "clear"])),
    ),
    min_size=1,
    max_size=10,
)


@given(steps=steps)
@settings(max_examples=1000, deadline=None)
def test_in_random_interruptions_the_history_is_what_was_received(steps):
    driver = answering()
    words = (f" {number}" for number in itertools.count())
    for kind, amount in steps:
        act(driver, kind, amount, words)
    driver.say({"type": "input_audio_buffer.clear"})
    driver.wait(2.0)
    driver.hold(held=False)
    if driver.session.is_answering:
        driver.end()
        driver.say({"type": "response.cancel"})

    received: dict[str, str] = {}
    for event in driver.events:
        if event["type"] == "response.output_text.delta":
            item_id = event["item_id"]
            received[item_id] = received.get(item_id, "") + event["delta"]
        elif event["type"] == "response.output_text.done":
            assert event["text"] == received[event["item_id"]]
    kept = {c.item_id: c.upto for c in of_kind(driver, AdoptBranch)}
    kept |= {c.item.id: len(c.item.text) for c in of_kind(driver, InsertItem)}
    assert kept == {item_id: len(text) for item_id, text in received.items()}
    for item_id, text in received.items():
        cuts = [cut.upto for cut in of_kind(driver, TruncateItem) if cut.item_id == item_id]
        got = driver.say({"type": "conversation.item.retrieve", "item_id": item_id})
        content = only(got, "conversation.item.retrieved")["item"]["content"]
        assert "".join(part["text"] for part in content) == text[: min(cuts, default=None)]


def act(driver: SessionDriver, kind: str, amount: Any, words: Iterator[str]) -> None:
    """Do one step, and check that nothing is sent once 200 ms of speech came over an answer."""
    match kind:
        case "speech" | "silence":
            for _ in range(amount):
                driver.audio(FRAME_MS, float(kind == "speech"))
                if driver.session.is_answering and over_the_limit(driver):
                    assert driver.text(next(words), driver.branches()[-1]) == []
        case "text":
            for _ in range(amount):
                sent = driver.text(next(words))
                assert not (sent and driver.session._answering._held)
        case "words":
            if driver.branches(BranchPurpose.TRANSCRIPT):
                driver.words(amount)
        case "end":
            driver.end() if amount == "complete" else driver.fail()
        case "wait":
            driver.wait(amount)
        case "hold":
            driver.hold(held=amount)
        case "say":
            driver.say(CLIENT_EVENTS[amount] | {"item_id": last_item(driver)})


CLIENT_EVENTS: dict[str, dict[str, Any]] = {
    "response.cancel": {"type": "response.cancel"},
    "truncate": {"type": "conversation.item.truncate", "content_index": 0, "text_end": 3},
    "clear": {"type": "input_audio_buffer.clear"},
}


def last_item(driver: SessionDriver) -> str:
    """The item of the last text that was sent."""
    return [e["item_id"] for e in driver.events if e["type"] == "response.output_text.delta"][-1]


def over_the_limit(driver: SessionDriver) -> bool:
    """Whether 200 ms of speech came over the answer that is being given."""
    segmenter = driver.session._listening._segmenter
    talking = segmenter.in_turn and segmenter.silence_samples == 0
    return talking and segmenter.speech_samples >= 200 * 16
