"""Every log line is one JSON object, and holds nothing it should not."""

import io
import json
import logging
import warnings

import pytest
import structlog

from agent.logs import configure_logging


@pytest.fixture
def lines():
    """Configure logging at INFO; call the result for what was logged."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


class Unread(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_what_is_logged_about_goes_on_without_a_reader(lines):
    configure_logging("info", Unread())
    structlog.get_logger().info("session closed")
    structlog.get_logger().exception("branch crashed")
    assert not lines()


def test_a_line_has_time_level_and_what_is_bound(lines):
    with structlog.contextvars.bound_contextvars(session_id="sess_1"):
        structlog.get_logger().info("session closed", turns=3)
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "session closed",
        "level": "info",
        "session_id": "sess_1",
        "turns": 3,
    }


def test_below_the_level_nothing_is_written(lines):
    structlog.get_logger().debug("event received")
    assert lines() == []


def test_a_traceback_is_text_without_local_variables(lines):
    secret = "sk-" + "do-not-log"

    def fail(key: str) -> None:
        raise ValueError("failed")

    try:
        fail(secret)
    except ValueError:
        structlog.get_logger().exception("session failed")
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    ours, theirs = lines()
    assert "ValueError: failed" in ours["exception"]
    assert "ValueError: failed" in theirs["exception"]
    assert secret not in json.dumps([ours, theirs])


def test_libraries_are_heard_from_warning_up(lines):
    configured = logging.getLogger("websockets.server")
    configured.debug("< TEXT 'what was said'")
    configured.info("connection open")
    configured.warning("trouble")
    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == (
        "trouble",
        "warning",
        "websockets.server",
    )


def test_debug_does_not_let_libraries_log_messages():
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("debug", stream)
        assert not logging.getLogger("uvicorn.error").isEnabledFor(logging.DEBUG)
        structlog.get_logger().debug("event received")
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
    assert json.loads(stream.getvalue())["event"] == "event received"


def test_a_warning_is_a_line(lines):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = lines()
    assert "DeprecationWarning: old" in line["event"]
