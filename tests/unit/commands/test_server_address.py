from pathlib import Path

import pytest

from agent.commands.server_address import ServerAddress, find_server, reachable_host


def test_the_server_that_would_be_started_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_AGENT_PORT", "9001")
    monkeypatch.setenv("VOICE_AGENT_API_KEY", "secret")
    assert find_server(None, None) == ServerAddress("http://127.0.0.1:9001", "secret")


def test_a_named_server_and_key_file_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_AGENT_API_KEY", "secret")
    key_file = tmp_path / "key"
    key_file.write_text("other\n")
    assert find_server("wss://host", key_file) == ServerAddress("wss://host", "other")


@pytest.mark.parametrize(
    ("bound", "reached"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("192.168.1.4", "192.168.1.4"),
        ("robot.lan", "robot.lan"),
    ],
)
def test_how_a_bound_address_is_reached(bound: str, reached: str) -> None:
    assert reachable_host(bound) == reached


def test_a_server_with_a_certificate_is_reached_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_AGENT_TLS_CERT_FILE", "cert.pem")
    assert find_server(None, None).url == "https://127.0.0.1:8080"
