"""Items that a client places, asks for, cuts and deletes."""

from __future__ import annotations

import base64

import numpy as np

from agent.audio.pcm import encode_pcm16
from agent.config import Limits
from agent.session.commands import (
    AdoptBranch,
    DeleteItem,
    InsertItem,
    TruncateItem,
)
from agent.session.items import AudioPart
from tests.helpers.session import SessionDriver, message, of_kind, only, types

MANUAL = {"audio": {"input": {"turn_detection": None}}}
TRANSCRIBED = {"audio": {"input": {"transcription": {"model": "any"}}}}


def test_items_are_placed_retrieved_truncated_and_deleted():
    driver = SessionDriver()
    driver.say(message("two", id="b"))
    sent = driver.say(message("one", id="a") | {"previous_item_id": "root"})
    assert only(sent, "conversation.item.added")["previous_item_id"] is None
    sent = driver.say(message("an answer", "assistant", id="c") | {"previous_item_id": "a"})
    assert only(sent, "conversation.item.done")["previous_item_id"] == "a"
    inserted = [(command.item.id, command.after) for command in of_kind(driver, InsertItem)]
    assert inserted == [("b", None), ("a", None), ("c", "a")]

    sent = driver.say({"type": "conversation.item.truncate", "item_id": "c", "text_end": 2})
    assert only(sent, "conversation.item.truncated")["item_id"] == "c"
    assert of_kind(driver, TruncateItem) == [TruncateItem("c", 2)]
    got = driver.say({"type": "conversation.item.retrieve", "item_id": "c"})
    assert only(got, "conversation.item.retrieved")["item"]["content"][0]["text"] == "an"

    assert only(
        driver.say({"type": "conversation.item.delete", "item_id": "c"}),
        "conversation.item.deleted",
    )
    assert of_kind(driver, DeleteItem) == [DeleteItem("c")]
    # Delete and create with the same id is how some clients truncate.
    assert only(driver.say(message("an", "assistant", id="c")), "conversation.item.added")


def test_deleting_the_item_being_written_lets_the_answer_end_without_it():
    driver = SessionDriver()
    driver.say(message("hello", id="a"))
    driver.say({"type": "response.create"})
    sent = driver.text("Hi")
    item_id = only(sent, "conversation.item.added")["item"]["id"]
    driver.say({"type": "conversation.item.delete", "item_id": item_id})
    driver.say({"type": "conversation.item.delete", "item_id": "a"})
    sent = driver.text(" there") + driver.end()
    assert only(sent, "response.done")["response"]["status"] == "completed"
    assert "conversation.item.done" not in types(sent)
    assert not of_kind(driver, AdoptBranch)


def test_an_item_with_audio_is_cut_into_clips_for_the_engine():
    driver = SessionDriver(audio={"input": {"format": {"type": "audio/pcm", "rate": 16000}}})
    samples = (0.1 * np.sin(np.arange(40 * 16_000) / 10)).astype(np.float32)
    audio = base64.b64encode(encode_pcm16(samples)).decode()
    sent = driver.say(
        {
            "type": "conversation.item.create",
            "item": {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_audio", "audio": audio, "transcript": "hum"}],
            },
        }
    )
    assert only(sent, "conversation.item.added")["item"]["content"] == [
        {"type": "input_audio", "transcript": "hum"}
    ]
    part = of_kind(driver, InsertItem)[-1].item.parts[0]
    assert isinstance(part, AudioPart)
    assert len(part.clips) == 2
    assert all(len(clip) < 30 * 32_000 for clip in part.clips)
    assert b"".join(part.clips) == encode_pcm16(samples)


def test_a_full_conversation_refuses_typed_items_and_makes_room_for_spoken_ones():
    driver = SessionDriver(limits=Limits(max_items=2))
    driver.say(message("one", id="a"))
    driver.say(message("two", id="b"))
    error = only(driver.say(message("three")), "error")["error"]
    assert error["code"] == "too_many_items"
    sent = driver.turn()
    assert only(sent, "conversation.item.deleted")["item_id"] == "a"
    sent = driver.text("Yes.") + driver.end()
    assert only(sent, "conversation.item.deleted")["item_id"] == "b"
    assert only(sent, "response.done")["response"]["status"] == "completed"
