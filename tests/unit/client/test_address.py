import pytest

from agent.client.address import realtime_url, uses_loopback
from agent.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/realtime"),
        ("https://voice.example.org/", "wss://voice.example.org/v1/realtime"),
        ("ws://host:1/v1/realtime", "ws://host:1/v1/realtime"),
        ("wss://host/other/path", "wss://host/other/path"),
        ("robot.lan:8080", "ws://robot.lan:8080/v1/realtime"),
        ("http://[::1]:8080", "ws://[::1]:8080/v1/realtime"),
        ("ws://host/v1/realtime?model=a", "ws://host/v1/realtime?model=a"),
    ],
)
def test_what_people_type(typed: str, meant: str) -> None:
    assert realtime_url(typed) == meant


def test_model_and_extensions_join_the_query_that_is_there() -> None:
    url = realtime_url("ws://host?model=a&x=1", model="b c", extensions={"timings", "captions"})
    assert url == "ws://host/v1/realtime?model=b+c&x=1&extensions=captions,timings"


@pytest.mark.parametrize("typed", ["", "ftp://host", "http://", "http://host:port", "ws://h:99999"])
def test_what_is_no_address_is_named(typed: str) -> None:
    with pytest.raises(ConfigError, match="no server address"):
        realtime_url(typed)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("ws://127.0.0.1:8080/v1/realtime", True),
        ("ws://127.9.9.9/", True),
        ("ws://localhost/", True),
        ("ws://[::1]:8080/", True),
        ("ws://192.168.1.4/", False),
        ("wss://localhost.example.org/", False),
    ],
)
def test_loopback(url: str, here: bool) -> None:
    assert uses_loopback(url) is here
