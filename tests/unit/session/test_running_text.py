"""Texts of segments as one text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.session.running_text import RunningText


@pytest.mark.parametrize(
    ("segments", "whole"),
    [
        ([["Hel", "lo."], ["How ", "are you?"]], "Hello. How are you?"),
        ([["Hello. "], [" Well"]], "Hello. Well"),
        ([["你好。"], ["再见"]], "你好。再见"),
        ([["สวัสดี"], ["ลาก่อน"]], "สวัสดีลาก่อน"),
        ([["안녕"], ["잘가"]], "안녕 잘가"),
        ([["OK"], ["好"]], "OK 好"),
        ([[], ["one"], ["", "  "], ["two"]], "one two"),
    ],
)
def test_segments_are_joined_as_their_script_wants(segments: list[list[str]], whole: str) -> None:
    running = RunningText()
    text = ""
    for pieces in segments:
        text += "".join(running.grow(piece) for piece in pieces)
        running.next_segment()
    assert text == whole


@given(st.lists(st.lists(st.text(max_size=5), max_size=4), max_size=5))
def test_no_letter_is_lost_or_added(segments: list[list[str]]) -> None:
    running = RunningText()
    text = ""
    for pieces in segments:
        text += "".join(running.grow(piece) for piece in pieces)
        running.next_segment()
    assert "".join(text.split()) == "".join("".join(map("".join, segments)).split())
