"""Host, origin and key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.datastructures import Headers

from agent.config import Settings
from agent.errors import ConfigError, NotAuthorized
from agent.gateway.auth import KeyCheck, SourceRules, is_loopback, load_key


def check(rules: SourceRules, host: str | None, origin: str | None = None, *, writes: bool = True):
    headers = {}
    if host is not None:
        headers["host"] = host
    if origin is not None:
        headers["origin"] = origin
    rules.check(Headers(headers), origin_matters=writes)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.8.9.1", "[::1]:80", "app.localhost:1"],
)
def test_loopback_names_are_this_server(host):
    check(SourceRules("127.0.0.1"), host)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example#localhost",
        "user@localhost",
        "localhost:80:80",
        "localhost:notaport",
        "localhost/",
        "[::1",
        "::1",
        "192.168.1.5",
        "löcalhost",
    ],
)
def test_other_names_are_not(host):
    with pytest.raises(NotAuthorized) as caught:
        check(SourceRules("127.0.0.1"), host)
    assert caught.value.param == "Host"
    assert caught.value.code == "host_not_allowed"


def test_the_bound_name_and_allowed_ones_are_accepted_on_any_port():
    rules = SourceRules("kiosk.lan", hosts=["Voice.Example:8443", "fd00::1"])
    for host in ("kiosk.lan:8080", "voice.example", "voice.example:9", "[fd00::1]:80"):
        check(rules, host)
    check(SourceRules("fd00::7"), "[fd00::7]:8080")


def test_bound_to_all_addresses_any_address_is_accepted_but_no_name():
    for bound in ("0.0.0.0", "::"):
        rules = SourceRules(bound)
        check(rules, "192.168.1.5:8080")
        check(rules, "[fd00::1]:8080")
        with pytest.raises(NotAuthorized):
            check(rules, "rebound.example:8080")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("LOCALHOST:8080", "http://localhost:8080"),
        ("localhost", "http://localhost:80"),
        ("voice.example", "https://voice.example"),
        ("voice.example:443", "https://voice.example"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("localhost:8080", "https://kiosk.lan"),
        ("localhost:8080", "HTTPS://KIOSK.LAN"),
        ("localhost:8080", "chrome-extension://abcdef"),
    ],
)
def test_own_pages_and_allowed_ones_may_connect(host, origin):
    allowed = ["https://kiosk.lan/", "chrome-extension://abcdef"]
    check(SourceRules("127.0.0.1", ["voice.example"], allowed), host, origin)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", "http://evil.example"),
        ("localhost:8080", "http://localhost:3000"),
        ("localhost:8080", "http://127.0.0.1:8080"),
        ("localhost:8080", "null"),
        ("localhost:8080", ""),
        ("localhost:8080", "file://localhost:8080"),
        ("localhost:8080", "http://localhost:8080@evil.example"),
        ("localhost:8080", "http://[::1"),
        ("localhost:8080", "http://kiosk.lan"),
        ("localhost:8080", "https://kiosk.lan.evil.example"),
    ],
)
def test_pages_of_others_may_not(host, origin):
    rules = SourceRules("127.0.0.1", origins=["https://kiosk.lan"])
    with pytest.raises(NotAuthorized) as caught:
        check(rules, host, origin)
    assert caught.value.param == "Origin"
    check(rules, host, origin, writes=False)


_HEADER = st.text(st.characters(max_codepoint=255), max_size=40) | st.text(
    "localhst127.0:/@[]#?%\\ \thtp-kiosk", max_size=30
)


@given(host=_HEADER, origin=st.none() | _HEADER)
def test_any_header_is_accepted_or_refused(host, origin):
    rules = SourceRules("127.0.0.1", ["kiosk.lan"], ["https://kiosk.lan"])
    try:
        check(rules, host, origin)
    except NotAuthorized:
        return
    assert any(name in host.lower() for name in ("localhost", "127.", "[", "kiosk.lan"))
    assert origin is None or origin.lower() == "https://kiosk.lan" or "//" in origin


@given(origin=st.from_regex(r"https?://[a-z0-9.-]{1,20}(:[0-9]{1,5})?", fullmatch=True))
def test_only_the_host_that_was_asked_for_is_the_same_host(origin):
    rules = SourceRules("127.0.0.1")
    page = origin.partition("//")[2].removesuffix(":80")
    try:
        check(rules, "localhost", origin)
    except NotAuthorized:
        return
    assert page.removesuffix(":443") == "localhost"


def test_a_client_that_is_no_browser_sends_no_origin():
    check(SourceRules("127.0.0.1"), "localhost:8080", None)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.5", False),
        ("voice.example", False),
        ("", False),
    ],
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected


def http(headers: dict[str, str]) -> dict[str, object]:
    return {"type": "http", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}


def websocket(*subprotocols: str) -> dict[str, object]:
    return {"type": "websocket", "headers": [], "subprotocols": list(subprotocols)}


@pytest.mark.parametrize(
    "scope",
    [
        http({"authorization": "Bearer sk-right"}),
        http({"authorization": "bearer  sk-right "}),
        websocket("realtime", "openai-insecure-api-key.sk-right"),
    ],
)
def test_the_right_key_passes(scope):
    KeyCheck(b"sk-right").check(scope)


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        (http({}), "missing_api_key"),
        (http({"authorization": "Basic c2stcmlnaHQ="}), "missing_api_key"),
        (http({"authorization": "Bearer "}), "missing_api_key"),
        (websocket("realtime"), "missing_api_key"),
        (http({"authorization": "Bearer sk-wrong"}), "invalid_api_key"),
        (http({"authorization": "Bearer sk-righ"}), "invalid_api_key"),
        (http({"authorization": "Bearer sk-rightt"}), "invalid_api_key"),
        (http({"authorization": "Bearer ключ"}), "invalid_api_key"),
        (websocket("openai-insecure-api-key."), "invalid_api_key"),
        (websocket("openai-insecure-api-key.\udcff"), "invalid_api_key"),
    ],
)
def test_a_wrong_or_missing_key_is_named(scope, code):
    with pytest.raises(NotAuthorized) as caught:
        KeyCheck(b"sk-right").check(scope)
    assert caught.value.code == code
    assert caught.value.param == "Authorization"
    assert "sk-right" not in str(caught.value)


def test_without_a_key_any_bearer_is_accepted():
    KeyCheck(None).check(http({"authorization": "Bearer whatever"}))
    KeyCheck(None).check(http({}))


def test_other_machines_may_reach_the_server_only_with_a_key():
    with pytest.raises(ConfigError) as caught:
        load_key(Settings(host="0.0.0.0"))
    assert "host" in str(caught.value)
    assert "api_key_file" in str(caught.value)
    assert load_key(Settings(host="0.0.0.0", api_key=SecretStr("sk-1"))) == b"sk-1"
    assert load_key(Settings(host="127.0.0.1")) is None


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "line\nbreak"])
def test_a_key_that_no_header_can_carry_is_refused(key):
    with pytest.raises(ConfigError, match="api_key"):
        load_key(Settings(api_key=SecretStr(key)))
