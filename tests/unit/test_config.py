from pathlib import Path

import pytest

from agent.config import ScorerName, load_settings
from agent.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOICE_AGENT_CONFIG", raising=False)


def test_the_command_line_wins_over_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "voice-agent.toml"
    file.write_text('port = 9000\nlanguage = "de"\n[vad]\nsilence_duration_ms = 700\n')
    monkeypatch.setenv("VOICE_AGENT_PORT", "9001")
    monkeypatch.setenv("VOICE_AGENT_LANGUAGE", "fr")

    settings = load_settings(config=file, port=9002, vad={"scorer": "webrtc"})

    assert settings.port == 9002
    assert settings.language == "fr"
    assert settings.vad.silence_duration_ms == 700
    assert settings.vad.scorer is ScorerName.WEBRTC


def test_the_file_can_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "voice-agent.toml"
    file.write_text("port = 9000\n")
    monkeypatch.setenv("VOICE_AGENT_CONFIG", str(file))
    assert load_settings().port == 9000


def test_options_that_are_none_count_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_AGENT_PORT", "9001")
    assert load_settings(port=None).port == 9001


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"port = 99999\n", "port"),
        (b"prot = 1\n", "prot"),
        (b"[vad]\nthreshold = nan\n", "vad.threshold"),
        (
            b"[vad]\nthresold = 0.4\n",
            r"no such setting; did you mean vad.threshold\?",
        ),
        (b"max_sessions = 4\n", r"did you mean limits.max_sessions\?"),
        (b"language = 'Germn'\n", r"^language: unknown language 'Germn'; did you mean 'de'"),
        (b"allowed_origins = 'https://kiosk.lan'\n", "allowed_origins: must be a list"),
        (
            b"allowed_origins = ['kiosk.lan']\n",
            r"allowed_origins.0: write it like https://.*'kiosk",
        ),
        (b"allowed_origins = ['https://kiosk.lan/page']\n", "allowed_origins.0: write it like"),
        (b"allowed_hosts = ['http://kiosk.lan']\n", "allowed_hosts.0: write it like kiosk.lan"),
        (b"[vad]\nsilence_duration_ms = 50\n", "vad.silence_duration_ms must be from 100"),
        (b"[vad]\nprefix_padding_ms = 9000\n", "vad.prefix_padding_ms must be at most 5000"),
        (b"no toml", "TOML"),
        (b"\xff\xfe", "TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    file = tmp_path / "voice-agent.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=named):
        load_settings(config=file)


def test_a_missing_file_is_no_empty_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        load_settings(config=tmp_path / "nothing.toml")


def test_a_list_in_the_environment_must_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_AGENT_ALLOWED_ORIGINS", "https://kiosk.lan")
    with pytest.raises(ConfigError, match=r"allowed_origins.*JSON"):
        load_settings()


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        load_settings(api_key_file=file).load_api_key()
    file.write_text("secret\n")
    key = load_settings(api_key_file=file).load_api_key()
    assert key is not None
    assert key.get_secret_value() == "secret"


def test_origins_and_hosts_as_they_are_written() -> None:
    origins = ("https://a", "http://localhost:9000", "https://kiosk.lan/", "null", "app://obsidian")
    hosts = ("kiosk.lan", "192.168.1.20", "[fe80::1]", "kiosk.lan:8080")
    settings = load_settings(allowed_origins=origins, allowed_hosts=hosts)
    assert (settings.allowed_origins, settings.allowed_hosts) == (origins, hosts)
