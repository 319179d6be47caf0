"""The page's modules by themselves, run in the browser without the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.realtime import (
    RealtimeClientEvent,
    RealtimeServerEvent,
    RealtimeTranslationServerEvent,
)
from playwright.async_api import Page
from pydantic import TypeAdapter

from agent.protocol import server_events
from tests.helpers.browser_server import Event, answer_begins, answer_ends, spoken

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# Freezes every state, so that changing one in place throws.
REPLAY = """async (events) => {
  const { INITIAL, MAX_ENTRIES, activityOf, disconnect, reduce } = await import("/session.js");
  const freeze = (value) => {
    if (value && typeof value === "object") Object.values(Object.freeze(value)).forEach(freeze);
    return value;
  };
  let state = INITIAL;
  const activities = [];
  events.forEach((event, index) => {
    state = event === null ? disconnect(state) : reduce(state, freeze(event), index * 100);
    freeze(state);
    activities.push(activityOf(state));
  });
  return { ...state, activities, MAX_ENTRIES };
}"""


async def replay(page: Page, events: Sequence[Event | None]) -> dict[str, Any]:
    """The state after these events, 100 ms apart; None stands for a lost connection."""
    state: dict[str, Any] = await page.evaluate(REPLAY, list(events))
    return state


def texts(state: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Role, text and status of each entry."""
    return [(entry["role"], entry["text"], entry["status"]) for entry in state["entries"]]


SPOKEN_TURN: list[Event] = [
    server_events.session_created({}),
    server_events.session_updated({}),
    server_events.speech_started("item_1", 0),
    *spoken("item_1", 0, 1000),
    server_events.transcription_completed("item_1", "Hello there.", 1.0),
    *answer_begins("resp_1", "item_2"),
    server_events.text_delta("resp_1", "item_2", "Good "),
    server_events.text_delta("resp_1", "item_2", "day."),
]


async def test_a_spoken_turn_goes_through_every_activity(modules: Page) -> None:
    ended = answer_ends("resp_1", "item_2", "Good day.")
    state = await replay(modules, [*SPOKEN_TURN, *ended])
    assert texts(state) == [("user", "Hello there.", "done"), ("agent", "Good day.", "done")]
    seen = [name for name, before in _steps(state["activities"]) if name != before]
    # Between the words and the answer nothing is known to be on its way.
    assert seen == ["quiet", "hearing", "thinking", "quiet", "thinking", "answering", "quiet"]


async def test_latency_is_the_pages_own_until_the_server_gives_its_measurement(
    modules: Page,
) -> None:
    state = await replay(modules, SPOKEN_TURN)
    stopped = [event["type"] for event in SPOKEN_TURN].index("input_audio_buffer.speech_stopped")
    first_text = len(SPOKEN_TURN) - 2
    expected_ms = (first_text - stopped) * 100
    assert state["entries"][1]["latency"] == {
        "ms": expected_ms, "measuredBy": "page", "stagesMs": {},
    }  # fmt: skip
    timings = server_events.turn_timings(
        item_id="item_1", response_id="resp_1", speech_end_ms=500, turn_end_delay_ms=500.0,
        speech_end_to_first_token_ms=700.0, stages_ms={"endpointing": 500.0},
    )  # fmt: skip
    state = await replay(modules, [*SPOKEN_TURN, timings])
    assert state["entries"][1]["latency"] == {
        "ms": 700.0, "measuredBy": "server", "stagesMs": {"endpointing": 500.0},
    }  # fmt: skip


async def test_transcripts_and_answers_may_cross(modules: Page) -> None:
    state = await replay(
        modules,
        [
            server_events.speech_started("item_1", 0),
            *spoken("item_1", 0, 1000),
            *answer_begins("resp_1", "item_2"),
            server_events.text_delta("resp_1", "item_2", "Yes."),
            server_events.transcription_completed("item_1", "Is it?", 1.0),
            *answer_ends("resp_1", "item_2", "Yes."),
        ],
    )
    assert texts(state) == [("user", "Is it?", "done"), ("agent", "Yes.", "done")]


async def test_an_answer_cut_before_its_first_word_leaves_no_row(modules: Page) -> None:
    state = await replay(
        modules,
        [
            *answer_begins("resp_1", "item_1"),
            *answer_ends("resp_1", "item_1", "", status="cancelled", reason="turn_detected"),
        ],
    )
    assert state["entries"] == []
    assert state["response"] is None


async def test_a_limit_is_marked(modules: Page) -> None:
    state = await replay(
        modules,
        [
            *answer_begins("resp_1", "item_1"),
            server_events.text_delta("resp_1", "item_1", "And then"),
            *answer_ends(
                "resp_1", "item_1", "And then", status="incomplete", reason="max_output_tokens"
            ),
        ],
    )
    assert texts(state) == [("agent", "And then", "incomplete")]


async def test_a_lost_connection_ends_what_was_on_its_way(modules: Page) -> None:
    state = await replay(modules, [*SPOKEN_TURN, server_events.speech_started("item_3", 0), None])
    assert texts(state) == [
        ("user", "Hello there.", "done"), ("agent", "Good day.", "lost"), ("user", "", "lost"),
    ]  # fmt: skip
    assert (state["ready"], state["response"]) == (False, None)


async def test_a_new_conversation_is_set_apart_from_what_was_before(modules: Page) -> None:
    state = await replay(modules, [*SPOKEN_TURN, None, server_events.session_created({})])
    assert [entry["role"] for entry in state["entries"]] == ["user", "agent", "divider"]


async def test_a_failed_transcript_and_a_deleted_item(modules: Page) -> None:
    state = await replay(
        modules,
        [
            server_events.speech_started("item_1", 0),
            *spoken("item_1", 0, 1000),
            server_events.transcription_failed("item_1", "engine_error", "no words"),
        ],
    )
    assert [(entry["status"], entry["reason"]) for entry in state["entries"]] == [
        ("failed", "no words")
    ]
    state = await replay(modules, [*SPOKEN_TURN, server_events.item_deleted("item_1")])
    assert [entry["id"] for entry in state["entries"]] == ["item_2"]


# The queue's answers to a row of operations: numbers push so many pieces of 40 ms, a text pushes
# an event, a list drains as many as it holds.
OUTBOX = """async (operations) => {
  const { Outbox } = await import("/outbox.js");
  const outbox = new Outbox(400);
  const sent = [];
  let next = 0;
  const read = (what) =>
    what instanceof ArrayBuffer ? new Uint32Array(what)[0] : what.name;
  for (const operation of operations) {
    if (typeof operation === "number") {
      for (let i = 0; i < operation; i++) {
        const piece = new ArrayBuffer(1920);
        new Uint32Array(piece)[0] = next++;
        outbox.push(piece);
      }
    } else if (typeof operation === "string") outbox.push({ name: operation });
    else {
      let left = operation.length;
      outbox.drain((what) => left-- > 0 && sent.push(read(what)) > 0);
    }
  }
  return {
    sent, waiting: outbox.waiting.map(read), soundMs: outbox.soundMs, lostMs: outbox.lostMs,
    isEmpty: outbox.isEmpty,
  };
}"""


@given(
    operations=st.lists(
        st.one_of(
            st.integers(0, 15),
            st.sampled_from(["commit", "create"]),
            st.lists(st.just(0), max_size=15),
        ),
        max_size=20,
    )
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_what_waits_keeps_its_order_and_only_the_oldest_sound_is_lost(
    modules: Page, operations: list[int | str | list[int]]
) -> None:
    waiting: list[int | str] = []
    sent: list[int | str] = []
    pieces = lost = 0
    for operation in operations:
        if isinstance(operation, list):
            sent += waiting[: len(operation)]
            waiting = waiting[len(operation) :]
            lost = lost if waiting else 0
            continue
        if isinstance(operation, str):
            waiting.append(operation)
            continue
        for _ in range(operation):
            waiting.append(pieces)
            pieces += 1
            sounds = [what for what in waiting if isinstance(what, int)]
            if len(sounds) > 10:  # 400 ms
                waiting.remove(sounds[0])
                lost += 1
    result = await modules.evaluate(OUTBOX, operations)
    kept = sum(isinstance(what, int) for what in waiting)
    assert result == {
        "sent": sent, "waiting": waiting, "soundMs": 40 * kept, "lostMs": 40 * lost,
        "isEmpty": not waiting,
    }  # fmt: skip


async def test_items_are_recreated_as_far_as_they_came(modules: Page) -> None:
    state = await replay(
        modules,
        [*SPOKEN_TURN, server_events.speech_started("item_3", 0), None,
         server_events.session_created({})],
    )  # fmt: skip
    events, text = await modules.evaluate(
        """async (entries) => {
          const { recreateEvents, textOf } = await import("/transcript.js");
          return [recreateEvents(entries), textOf("conversation", { entries, passages: [] })];
        }""",
        state["entries"],
    )
    parse = TypeAdapter(RealtimeClientEvent).validate_python
    assert [parse(event).type for event in events] == ["conversation.item.create"] * 2
    assert all(event["event_id"] == event["item"]["id"] for event in events)
    assert [(event["item"]["role"], event["item"]["content"]) for event in events] == [
        ("user", [{"type": "input_text", "text": "Hello there."}]),
        ("assistant", [{"type": "output_text", "text": "Good day."}]),
    ]
    assert text == "You: Hello there.\n\nAgent: Good day.\n"


@pytest.mark.parametrize(
    ("events", "unanswered"),
    [
        (SPOKEN_TURN[:-2], True),
        (SPOKEN_TURN, False),  # a part of the answer is there
        ([*SPOKEN_TURN, *answer_ends("resp_1", "item_2", "Good day.")], False),
        (SPOKEN_TURN[:3], False),
    ],
)
async def test_only_what_was_being_answered_is_asked_again(
    modules: Page, events: list[Event], unanswered: bool
) -> None:
    lost = await replay(modules, [*events, None])
    assert (lost["continues"], lost["unanswered"]) == (True, unanswered)
    again = await replay(modules, [*events, None, None, server_events.session_created({})])
    assert again["unanswered"] is False


def _error(code: str) -> Event:
    return {"type": "error", "error": {"type": "x", "code": code, "message": f"it was {code}"}}


async def test_errors_are_kept_until_things_go_on_and_harmless_ones_are_not(modules: Page) -> None:
    assert (await replay(modules, [_error("bad")]))["error"] == "it was bad"
    assert (await replay(modules, [_error("response_cancel_not_active")]))["error"] == ""
    begun = server_events.speech_started("item_1", 0)
    assert (await replay(modules, [_error("bad"), begun]))["error"] == ""


ITEMS = st.sampled_from([f"item_{n}" for n in range(4)])
RESPONSES = st.sampled_from([f"resp_{n}" for n in range(3)])
STATUSES = st.sampled_from(["completed", "cancelled", "incomplete", "failed"])


EVENTS = st.one_of(
    st.just([None]),
    st.just([server_events.session_created({}), server_events.session_updated({})]),
    st.builds(lambda item: [server_events.speech_started(item, 0)], ITEMS),
    st.builds(lambda item, n: spoken(item, 0, 1)[:n], ITEMS, st.integers(0, 4)),
    st.builds(lambda item: [server_events.transcription_completed(item, "x", 1.0)], ITEMS),
    st.builds(lambda item: [server_events.transcription_failed(item, "x", "y")], ITEMS),
    st.builds(lambda item: [server_events.item_deleted(item)], ITEMS),
    st.builds(lambda resp, item, n: answer_begins(resp, item)[:n], RESPONSES, ITEMS,
              st.integers(0, 4)),
    st.builds(lambda resp, item: [server_events.text_delta(resp, item, "word ")], RESPONSES, ITEMS),
    st.builds(lambda resp, item, status, n: answer_ends(resp, item, "word", status=status)[-n:],
              RESPONSES, ITEMS, STATUSES, st.integers(1, 5)),
    st.just([{"type": "something.nobody.knows", "item": None}]),
)  # fmt: skip


@given(parts=st.lists(EVENTS, max_size=40))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_order_of_events_leaves_a_state_that_makes_sense(
    modules: Page, parts: list[list[Event | None]]
) -> None:
    events = [event for part in parts for event in part]
    state = await replay(modules, events)
    ids = [entry["id"] for entry in state["entries"]]
    assert len(ids) == len(set(ids))
    assert set(state["activities"]) <= {"quiet", "hearing", "thinking", "answering"}
    lost = await replay(modules, [*events, None])
    assert lost["activities"][-1] == "quiet"
    statuses = {entry["status"] for entry in lost["entries"]}
    assert not statuses & {"hearing", "recognising", "streaming"}


async def test_a_page_that_is_never_closed_stays_small(modules: Page) -> None:
    events = [server_events.speech_started(f"item_{n}", n) for n in range(500)]
    state = await replay(modules, events)
    assert len(state["entries"]) == state["MAX_ENTRIES"]
    assert state["entries"][-1]["id"] == "item_499"


def _official_names(union: Any) -> set[str]:
    members = get_args(get_args(union)[0])
    return {name for member in members for name in get_args(member.model_fields["type"].annotation)}


async def test_event_names_are_the_protocols(modules: Page) -> None:
    names = await modules.evaluate("import('/messages.js').then((module) => ({...module}))")
    assert set(names["CLIENT_EVENT"].values()) <= _official_names(RealtimeClientEvent)
    assert set(names["SERVER_EVENT"].values()) <= _official_names(RealtimeServerEvent)
    translation = _official_names(RealtimeTranslationServerEvent)
    assert set(names["TRANSLATION_EVENT"].values()) <= translation
    ours = {
        server_events.turn_timings(
            item_id="", response_id=None, speech_end_ms=0, turn_end_delay_ms=0,
            speech_end_to_first_token_ms=None, stages_ms={},
        )["type"],
        server_events.segment_timings(
            item_id="", start_ms=0, end_ms=0, status="", speech_end_to_first_text_ms=None,
            speech_end_to_done_ms=0, backlog_s=0,
        )["type"],
        server_events.session_expiring("idle", 0)["type"],
    }  # fmt: skip
    assert set(names["EXTENSION_EVENT"].values()) == ours


def _steps(values: list[str]) -> list[tuple[str, str | None]]:
    """Each value with the one before it."""
    return list(zip(values, [None, *values[:-1]], strict=True))
