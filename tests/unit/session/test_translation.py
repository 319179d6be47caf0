"""What a translation session does, event by event, and what holds in any order of events."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.config import Limits
from agent.session.commands import DeleteItem, StartBranch
from tests.helpers.session import only, types
from tests.helpers.translation import CLOSE, TranslationDriver, update

SOURCE = {"input": {"transcription": {"model": "any"}}}


def test_a_session_begins_with_its_settings() -> None:
    driver = TranslationDriver()
    session = only(driver.events, "session.created")["session"]
    assert session["id"] == "sess_test"
    assert session["type"] == "translation"
    assert session["model"] == "test-model"
    assert session["audio"] == {
        "input": {"noise_reduction": None, "transcription": None},
        "output": {"language": "en"},
    }
    assert [command.translate_into for command in driver.configured()] == ["en"]


def test_a_segment_becomes_text_and_leaves_nothing_in_the_engine() -> None:
    driver = TranslationDriver()
    assert driver.segment() == []
    (branch,) = driver.running
    driver.text("Hello", branch)
    driver.text(" there", branch)
    assert driver.end(branch) == []
    assert driver.translation == "Hello there"
    assert driver.items == []
    assert [report.status for report in driver.reports] == ["completed"]
    assert [event["elapsed_ms"] for event in driver.events[1:]] == [1600, 1600]


def test_what_was_said_is_sent_only_to_those_who_asked_for_it() -> None:
    driver = TranslationDriver()
    for number in (1, 2):
        driver.segment()
        driver.text(f"uno {number}", source=True)
        driver.text(f"one {number}")
        driver.end()
        driver.say(update(**SOURCE))
    assert driver.source == "uno 2"
    assert driver.translation == "one 1 one 2"


def test_the_texts_of_segments_come_in_the_order_they_were_said_in() -> None:
    driver = TranslationDriver()
    driver.say(update(**SOURCE))
    for _ in range(3):
        driver.segment()
    first, second, third = driver.running
    driver.text("c", third, source=True)
    driver.text("C", third)
    driver.end(third)
    driver.text("b", second, source=True)
    assert types(driver.events[2:]) == []
    driver.text("a", first, source=True)
    driver.text("A", first)
    driver.end(first)
    assert (driver.source, driver.translation) == ("a b", "A")
    driver.text("B", second)
    driver.end(second)
    assert (driver.source, driver.translation) == ("a b c", "A B C")
    assert driver.items == []


def test_a_language_changes_from_the_next_segment_on() -> None:
    driver = TranslationDriver()
    driver.audio(500, 1.0)
    answer = driver.say(
        update(
            input={"transcription": {"model": "any", "language": "Spanish"}},
            output={"language": "German"},
        )
    )
    audio = only(answer, "session.updated")["session"]["audio"]
    assert audio["output"]["language"] == "de"
    assert audio["input"]["transcription"] == {"model": "any", "language": "es"}
    driver.segment(500)
    driver.text("uno", source=True)
    driver.text("one")
    driver.end()
    assert driver.source == ""  # it was not asked for when this was said
    driver.segment()
    kinds = [type(command).__name__ for command in driver.commands]
    assert kinds.index("StartBranch") < len(kinds) - 1 - kinds[::-1].index("Configure")
    assert [(one.language, one.translate_into) for one in driver.configured()] == [
        (None, "en"),
        ("es", "de"),
    ]


def test_each_text_says_its_language_where_that_was_asked_for() -> None:
    driver = TranslationDriver(extensions=frozenset({"timings"}), while_spoken=True)
    driver.segment()
    driver.audio(500, 1.0)
    driver.say(update(output={"language": "es"}))  # it counts from the third segment on
    driver.segment(500)
    driver.text("one")
    driver.end()
    driver.text("two")
    driver.end()
    for preview in ("tres cuatro", "tres cuatro cinco"):
        driver.audio(1500, 1.0)
        driver.look("three four", preview)
    deltas = [one for one in driver.events if one["type"] == "session.output_transcript.delta"]
    assert [(one["delta"].strip(), one["language"]) for one in deltas] == [
        ("one", "en"),
        ("two", "en"),
        ("tres cuatro", "es"),
    ]


def test_nobody_else_is_told_the_language() -> None:
    driver = TranslationDriver()
    driver.segment()
    driver.text("one")
    delta = only(driver.events, "session.output_transcript.delta")
    assert set(delta) == {"type", "event_id", "delta", "elapsed_ms"}


def test_closing_translates_what_was_said_to_the_last_word() -> None:
    driver = TranslationDriver()
    driver.segment()
    driver.audio(400, 1.0)
    assert driver.say(CLOSE) == []
    assert driver.audio(400, 1.0) == []  # not heard any more
    assert len(driver.running) == 2
    driver.text("one")
    driver.end()
    assert driver.closed is None
    driver.text("two")
    assert types(driver.end()) == ["session.closed"]
    assert driver.translation == "one two"
    assert driver.closed is not None
    assert driver.closed.limit is None


def test_a_session_in_which_nobody_spoke_closes_at_once() -> None:
    driver = TranslationDriver()
    driver.audio(500, 0.0)
    assert types(driver.say(CLOSE)) == ["session.closed"]
    assert driver.say(CLOSE) == []


def test_settings_cannot_change_once_it_is_being_closed() -> None:
    driver = TranslationDriver()
    driver.segment()
    driver.say(CLOSE)
    assert "closed" in only(driver.say(update(**SOURCE)), "error")["error"]["message"]


def test_a_segment_that_fails_is_told_with_its_place_and_the_next_one_goes_on() -> None:
    driver = TranslationDriver()
    driver.segment()
    driver.segment()
    error = only(driver.fail(), "error")["error"]
    assert error["code"] == "engine_unavailable"
    assert "from 0 to 1408 ms" in error["message"]
    driver.text("two")
    driver.end()
    assert driver.translation == "two"
    assert [report.status for report in driver.reports] == ["failed", "completed"]


def test_speech_that_waits_is_counted_and_reported() -> None:
    driver = TranslationDriver(extensions=frozenset({"timings"}))
    driver.segment()
    driver.segment()
    assert driver.session.backlog_s == pytest.approx(3.0, abs=0.1)
    driver.text("one")
    timings = only(driver.end(), "voice_agent.segment.timings")
    assert timings["status"] == "completed"
    assert timings["backlog_s"] == pytest.approx(1.6, abs=0.1)
    driver.end()
    assert driver.session.backlog_s == 0.0


def test_audio_that_stops_coming_ends_the_segment() -> None:
    driver = TranslationDriver()
    driver.audio(1000, 1.0)
    driver.wait(1.0)
    assert not driver.running  # the network may be slow
    driver.wait(1.5)
    assert len(driver.running) == 1


def test_audio_that_waited_for_the_engine_has_not_stopped_coming() -> None:
    """Its client may have waited for us: it gets the time to go on as if it came just now."""
    driver = TranslationDriver()
    driver.audio(1000, 1.0, waited_s=30.0)
    driver.wait(1.0)
    assert not driver.running
    driver.audio(1000, 1.0, waited_s=31.0)
    driver.wait(2.5)
    assert len(driver.running) == 1
    assert len(driver.committed[driver.items[0]]) >= 2 * 16_000 - 512


def test_the_longest_session_ends_with_all_that_was_said() -> None:
    driver = TranslationDriver(limits=Limits(max_session_s=10))
    driver.audio(9_900, 1.0)
    error = only(driver.wait(1.0), "error")["error"]
    assert error["code"] == "session_expired"
    assert driver.closed is None
    driver.text("all")
    assert types(driver.end()) == ["session.closed"]
    assert driver.closed is not None
    assert driver.closed.limit == "max_session"


@pytest.mark.parametrize(
    ("event", "param", "says"),
    [
        (update(output={"language": "Klingonisch"}), "session.audio.output.language", "unknown"),
        (update(output={"language": "Spannish"}), "session.audio.output.language", "'es'"),
        (
            update(output={"langauge": "es"}),
            "session.audio.output.langauge",
            "'session.audio.output.language'",
        ),
        (
            update(input={"transcription": {"model": "x", "language": "Germn"}}),
            "session.audio.input.transcription.language",
            "'de'",
        ),
        (update(input={"turn_detection": None}), "session.audio.input.turn_detection", "unknown"),
        ({"type": "session.update"}, "session", "required"),
        ({"type": "response.create"}, "type", "session.close"),
        ({"type": "input_audio_buffer.append", "audio": ""}, "type", "did you mean 'session."),
        ("{", None, "JSON"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(event: Any, param: str, says: str) -> None:
    driver = TranslationDriver()
    error = only(driver.say(event), "error")["error"]
    assert error["param"] == param
    assert says in error["message"]
    driver.segment()
    driver.text("fine")
    assert driver.translation == "fine"
    assert [one.translate_into for one in driver.configured()] == ["en"]


def test_an_engine_that_knows_only_some_languages_says_which() -> None:
    driver = TranslationDriver(targets=("en",))
    error = only(driver.say(update(output={"language": "es"})), "error")["error"]
    assert error["param"] == "session.audio.output.language"
    assert error["code"] == "unsupported_language"
    assert "English (en) only, not into Spanish (es)" in error["message"]
    assert "Gemma 4" in error["message"]
    updated = only(driver.say(update(output={"language": "en-GB"})), "session.updated")
    assert updated["session"]["audio"]["output"]["language"] == "en-GB"


def test_an_engine_without_english_begins_with_what_it_has() -> None:
    driver = TranslationDriver(targets=("fr", "de"))
    created = only(driver.events, "session.created")
    assert created["session"]["audio"]["output"]["language"] == "fr"


class AnyOrder(RuleBasedStateMachine):
    """Speech, engine and client in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = TranslationDriver()
        self.driver.say(update(**SOURCE))
        self.words = itertools.count(1)
        self.expected: dict[str, list[str]] = {}
        self.sent = ("", "")
        self.failed: set[str] = set()

    @property
    def is_closing(self) -> bool:
        return any(one["type"] == "session.closed" for one in self.driver.events) or self.asked

    asked = False

    @precondition(lambda self: not self.is_closing)
    @rule(
        speech=st.lists(
            st.tuples(st.integers(32, 3000), st.sampled_from([0.0, 0.3, 1.0])), max_size=4
        )
    )
    def hear(self, speech: list[tuple[int, float]]) -> None:
        for duration_ms, probability in speech:
            self.driver.audio(duration_ms, probability)

    @rule()
    def wait(self) -> None:
        self.driver.wait(0.7)

    @precondition(lambda self: self.driver.running)
    @rule(data=st.data(), is_source=st.booleans())
    def write(self, data: st.DataObject, is_source: bool) -> None:
        branch = data.draw(st.sampled_from(list(self.driver.running)))
        word = f"w{next(self.words)}"
        texts = self.expected.setdefault(branch.branch_id, ["", ""])
        texts[is_source] += f" {word}"
        self.driver.text(f" {word}", branch, source=is_source)

    @precondition(lambda self: self.driver.running)
    @rule(data=st.data(), fails=st.booleans())
    def end(self, data: st.DataObject, fails: bool) -> None:
        branch = data.draw(st.sampled_from(list(self.driver.running)))
        if fails:
            self.failed.add(branch.branch_id)
            self.driver.fail(branch)
        else:
            self.driver.end(branch)

    @rule(language=st.sampled_from(["de", "es", "nonsense"]))
    def change(self, language: str) -> None:
        self.driver.say(update(output={"language": language}))

    @precondition(lambda self: not self.is_closing)
    @rule()
    def close(self) -> None:
        self.asked = True
        self.driver.say(CLOSE)

    @invariant()
    def texts_only_grow(self) -> None:
        now = (self.driver.source, self.driver.translation)
        assert all(text.startswith(before) for text, before in zip(now, self.sent, strict=True))
        self.sent = now

    @invariant()
    def texts_are_in_order_and_nothing_is_missing(self) -> None:
        started = [one for one in self.driver.commands if isinstance(one, StartBranch)]
        deleted = [one.item_id for one in self.driver.commands if isinstance(one, DeleteItem)]
        assert deleted == [one.item_id for one in started[: len(deleted)]]
        # All of the segments that are done, and what there is of the first that is not.
        shown = [one.branch_id for one in started[: len(deleted) + 1]]
        for place, sent in ((True, self.driver.source), (False, self.driver.translation)):
            words = [self.expected[one][place] for one in shown if one in self.expected]
            assert sent.split() == "".join(words).split()

    @invariant()
    def it_closes_when_all_is_done(self) -> None:
        done = not self.driver.items
        closed = [one for one in self.driver.events if one["type"] == "session.closed"]
        assert len(closed) == (1 if self.asked and done else 0)
        assert (self.driver.closed is not None) == bool(closed)

    def teardown(self) -> None:
        if not self.asked:
            self.close()
        while self.driver.running:
            self.driver.end()
        self.it_closes_when_all_is_done()
        self.texts_are_in_order_and_nothing_is_missing()
        assert self.driver.session.backlog_s == 0.0
        heard = sum(samples.size for samples in self.driver.committed.values())
        assert all(np.any(samples) for samples in self.driver.committed.values())
        assert heard <= self.driver.now * 16_000


AnyOrder.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = AnyOrder.TestCase
