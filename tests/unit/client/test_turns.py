from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.client.turns import TurnTracker
from agent.protocol import server_events
from tests.helpers.scripted_server import answer, spoken_turn, timings, user_turn

Event = dict[str, Any]


def feed(tracker: TurnTracker, events: Iterable[Event], start_s: float = 0.0) -> None:
    """Give the events one second apart."""
    for number, event in enumerate(events):
        tracker.receive(event, start_s + number)


def heard(item_id: str, transcript: str) -> Event:
    return server_events.transcription_completed(item_id, transcript, 1.0)


def test_one_turn_from_its_beginning_to_its_measurements() -> None:
    tracker = TurnTracker(transcripts=True, answers=True)
    events = spoken_turn(
        "item_1",
        start_ms=100,
        end_ms=1500,
        transcript=" Go forward. ",
        deltas=["I ", "will."],
        speech_end_ms=1000,
    )
    feed(tracker, events)
    (turn,) = tracker.turns
    assert (turn.audio_start_ms, turn.audio_end_ms, turn.ended_at) == (100, 1500, 1.0)
    assert (turn.transcript, turn.heard) == ("Go forward.", True)
    assert (turn.answer, turn.status, turn.first_text_at) == ("I will.", "completed", 5.0)
    assert turn.timings is not None
    assert turn.timings["speech_end_ms"] == 1000
    assert tracker.waiting_for() is None


def test_what_is_waited_for_in_words() -> None:
    tracker = TurnTracker(transcripts=True, answers=True)
    assert tracker.waiting_for() is None
    started, stopped, committed = user_turn("item_1", start_ms=0, end_ms=900)
    created, delta, done = answer("resp_1", "Hello.")
    expected = [
        (started, "the end of the turn"),
        (stopped, "the transcript"),
        (committed, "the transcript"),
        (heard("item_1", "Hi."), "the answer"),
        (created, "the answer"),
        (delta, "the answer"),
        (done, None),
    ]
    for event, waiting_for in expected:
        feed(tracker, [event])
        assert tracker.waiting_for() == waiting_for, event["type"]


def test_nothing_is_waited_for_that_was_not_asked_for() -> None:
    tracker = TurnTracker(transcripts=False, answers=False)
    feed(tracker, user_turn("item_1", start_ms=0, end_ms=900))
    assert tracker.waiting_for() is None


def test_a_turn_the_client_committed_itself_has_no_beginning() -> None:
    tracker = TurnTracker(transcripts=False, answers=False)
    feed(tracker, [server_events.audio_committed("item_1", None)], start_s=7.0)
    assert tracker.turns[0].ended_at == 7.0
    assert tracker.turns[0].audio_start_ms is None


def test_an_interrupted_answer_belongs_to_the_turn_before() -> None:
    tracker = TurnTracker(transcripts=False, answers=True)
    created, delta, _ = answer("resp_1", "Once upon")
    cancelled = answer("resp_1", status="cancelled")[-1]
    started, stopped, committed = user_turn("item_2", start_ms=2000, end_ms=3000)
    feed(tracker, [*user_turn("item_1", start_ms=0, end_ms=900), created, delta, started])
    assert tracker.waiting_for() == "the end of the turn"
    feed(tracker, [cancelled, stopped, committed])
    assert tracker.waiting_for() == "the answer"
    feed(tracker, answer("resp_2", "Yes?"))
    assert [(turn.answer, turn.status) for turn in tracker.turns] == [
        ("Once upon", "cancelled"),
        ("Yes?", "completed"),
    ]
    assert tracker.waiting_for() is None


def test_a_turn_that_was_answered_together_with_the_next_is_not_waited_for() -> None:
    tracker = TurnTracker(transcripts=False, answers=True)
    feed(tracker, user_turn("item_1", start_ms=0, end_ms=900))
    feed(tracker, user_turn("item_2", start_ms=1000, end_ms=1900))
    feed(tracker, answer("resp_1", "To both."))
    assert [turn.answer for turn in tracker.turns] == ["", "To both."]
    assert tracker.waiting_for() is None


def test_a_backchannel_over_an_answer_is_not_waited_for_once_the_server_says_so() -> None:
    tracker = TurnTracker(transcripts=True, answers=True)
    created, delta, done = answer("resp_1", "Once upon")
    feed(tracker, [*user_turn("item_1", start_ms=0, end_ms=900), heard("item_1", "Well?"), created])
    feed(tracker, [*user_turn("item_2", start_ms=2000, end_ms=2300), heard("item_2", "Mhm.")])
    feed(tracker, [delta, done])
    assert tracker.waiting_for() == "the answer"
    feed(tracker, [timings("item_2", None, 2250)])
    assert tracker.waiting_for() is None


def test_no_answer_is_due_when_no_words_were_heard() -> None:
    tracker = TurnTracker(transcripts=True, answers=True)
    feed(tracker, [*user_turn("item_1", start_ms=0, end_ms=900), heard("item_1", "")])
    assert tracker.waiting_for() is None


def test_a_failure_is_an_end_and_is_told() -> None:
    tracker = TurnTracker(transcripts=True, answers=True)
    failed = server_events.transcription_failed("item_1", "engine_error", "out of memory")
    feed(tracker, [*user_turn("item_1", start_ms=0, end_ms=900), failed])
    feed(tracker, answer("resp_1", status="failed"))
    (turn,) = tracker.turns
    assert turn.status == "failed"
    assert turn.problems == ["not recognised: out of memory", "not answered: the engine has gone"]
    assert tracker.waiting_for() is None


def test_transcripts_may_stream() -> None:
    tracker = TurnTracker(transcripts=True, answers=False)
    kind = "conversation.item.input_audio_transcription.delta"
    deltas = [{"type": kind, "item_id": "item_1", "delta": text} for text in ("Go ", "forw")]
    feed(tracker, [*user_turn("item_1", start_ms=0, end_ms=900), *deltas])
    assert tracker.turns[0].transcript == "Go forw"
    assert tracker.waiting_for() == "the transcript"
    feed(tracker, [heard("item_1", "Go forward.")])
    assert tracker.turns[0].transcript == "Go forward."


def test_answers_to_typed_text_are_no_spoken_turns() -> None:
    tracker = TurnTracker(transcripts=True, answers=True)
    feed(tracker, [*answer("resp_1", "Hello."), timings("item_of_text", "resp_1", 0)])
    assert tracker.turns == []
    assert tracker.waiting_for() is None


ITEMS = ("item_1", "item_2", "item_3")
EVENTS = [
    event
    for item_id in ITEMS
    for event in [
        *spoken_turn(
            item_id, start_ms=0, end_ms=900, transcript="Hi.", deltas=["Yo"], speech_end_ms=800
        ),
        server_events.transcription_failed(item_id, "engine_error", "gone"),
        answer(f"resp_{item_id}", status="cancelled")[-1],
        server_events.item_deleted(item_id),
        server_events.audio_cleared(),
    ]
]


@given(st.lists(st.sampled_from(EVENTS)))
def test_any_order_of_events_is_followed(events: list[Event]) -> None:
    tracker = TurnTracker(transcripts=True, answers=True)
    for now, event in enumerate(events):
        tracker.receive(event, float(now))
        ids = [turn.item_id for turn in tracker.turns]
        assert len(set(ids)) == len(ids)
        if all(turn.over and turn.heard and turn.status for turn in tracker.turns):
            assert tracker.waiting_for() is None
