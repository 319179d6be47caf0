"""Every bad message gets an error that names the field, and the session goes on."""

from __future__ import annotations

import json

import pytest

from tests.helpers.bad_input import BAD_MESSAGES, Bad
from tests.helpers.session import SessionDriver, only, types


@pytest.mark.parametrize("bad", BAD_MESSAGES, ids=lambda bad: bad.name)
def test_bad_message_is_answered_and_survived(bad: Bad):
    driver = SessionDriver()
    error = only(driver.say(bad.message), "error")["error"]
    assert (error["param"], error["code"]) == (bad.param, bad.code)
    assert bad.says in error["message"]
    assert error["type"] == "invalid_request_error"
    assert len(json.dumps(error)) < 2_000
    # Nothing has changed: a turn is heard and answered as if nothing had happened.
    assert "response.created" in types(driver.turn())
    assert only(driver.text("Yes") + driver.end(), "response.done")["response"]["status"] == (
        "completed"
    )


def test_an_error_names_the_event_that_caused_it():
    driver = SessionDriver()
    error = only(driver.say('{"type": "nonsense", "event_id": "e7"}'), "error")["error"]
    assert error["event_id"] == "e7"


def test_truncation_of_text_needs_a_place_in_it():
    driver = SessionDriver()
    driver.turn()
    driver.text("Twelve chars")
    item_id = driver.events[-1]["item_id"]
    truncate = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0}
    still_written = only(driver.say(truncate | {"text_end": 3}), "error")["error"]
    assert "response.cancel" in still_written["message"]
    driver.end()
    no_place = only(driver.say(truncate | {"audio_end_ms": 500}), "error")["error"]
    assert (no_place["param"], no_place["code"]) == ("text_end", "missing_required_parameter")
    beyond = only(driver.say(truncate | {"text_end": 13}), "error")["error"]
    assert (beyond["param"], "12 characters" in beyond["message"]) == ("text_end", True)
    user_item = only(driver.events, "input_audio_buffer.committed")["item_id"]
    not_ours = only(driver.say(truncate | {"item_id": user_item, "text_end": 0}), "error")["error"]
    assert not_ours["param"] == "item_id"
