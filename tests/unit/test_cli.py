"""The command line itself: options, help, errors and exit statuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.cli import app
from agent.config import EngineName, ScorerName, Settings
from agent.errors import (
    ConfigError,
    ConnectionFailed,
    EngineUnavailable,
    LimitExceeded,
    ModelStoreError,
    NotAuthorized,
)

runner = CliRunner()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Collects the settings that `serve` would run with."""
    settings: list[Settings] = []
    gateway = ModuleType("agent.gateway.app")
    gateway.run = settings.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agent.gateway.app", gateway)
    return settings


def raise_from_serve(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(settings: Settings) -> None:
        raise error

    gateway = ModuleType("agent.gateway.app")
    gateway.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agent.gateway.app", gateway)


def test_every_option_of_serve_is_a_setting(served: list[Settings], tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("secret")
    config = tmp_path / "voice-agent.toml"
    config.write_text("[limits]\nmax_sessions = 3\n")
    options: list[Any] = [
        *("--engine", "small", "--model", "folder", "--host", "0.0.0.0", "--port", 9000),
        *("--api-key-file", key_file, "--instructions", "Be brief.", "--language", "de"),
        *("--temperature", 0.2, "--max-output-tokens", 64, "--vad", "webrtc"),
        *("--allowed-origin", "https://a", "--allowed-origin", "https://b"),
        *("--allowed-host", "kiosk.lan", "--log-level", "debug", "--config", config),
    ]
    result = runner.invoke(app, ["serve", *map(str, options)])
    assert result.exit_code == 0, result.output
    (settings,) = served
    expected = {
        "config": config,
        "engine": EngineName.SMALL,
        "model": "folder",
        "host": "0.0.0.0",
        "port": 9000,
        "api_key_file": key_file,
        "instructions": "Be brief.",
        "language": "de",
        "temperature": 0.2,
        "max_output_tokens": 64,
        "allowed_origins": ("https://a", "https://b"),
        "allowed_hosts": ("kiosk.lan",),
        "log_level": "debug",
    }
    assert settings.model_dump(include=set(expected)) == expected
    assert settings.vad.scorer is ScorerName.WEBRTC
    assert settings.limits.max_sessions == 3


def test_serve_without_options_runs_the_defaults(served: list[Settings]) -> None:
    assert runner.invoke(app, ["serve"]).exit_code == 0
    assert served == [Settings()]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("port: is taken"), 2),
        (NotAuthorized("give the key"), 2),
        (ConnectionFailed("nobody there"), 1),
        (LimitExceeded("full"), 1),
        (EngineUnavailable("no memory"), 1),
        (ModelStoreError("offline"), 1),
    ],
)
def test_an_error_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    raise_from_serve(monkeypatch, error)
    result = runner.invoke(app, ["serve"])
    assert result.exit_code == status
    assert result.stderr == f"voice-agent: {error}\n"
    assert result.stdout == ""


def test_ctrl_c_leaves_with_130_and_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    raise_from_serve(monkeypatch, KeyboardInterrupt())
    result = runner.invoke(app, ["serve"])
    assert result.exit_code == 130
    assert result.output == ""


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    raise_from_serve(monkeypatch, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        runner.invoke(app, ["serve"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--port", "99999"], "port"),
        (["serve", "--engine", "big"], "engine"),
        (["serve", "--vad", "best"], "vad.scorer"),
        (["serve", "--config", "/nowhere.toml"], "there is no file"),
        (["say", "/nowhere.wav"], "there is no such file"),
        (["say", "--url", "ftp://x", __file__], "no recording"),
        (["talk", "--api-key-file", "/nowhere"], "api_key_file"),
    ],
)
def test_what_is_given_wrong_is_named(
    served: list[Settings], arguments: list[str], words: str
) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert served == []


@pytest.mark.parametrize(
    "arguments", [["say"], ["say", "--gap-s", "-1", "x.wav"], ["bogus"], ["models", "pull"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "voice-agent" in result.stderr or "Usage" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["talk"],
        ["say"],
        ["doctor"],
        ["models"],
        ["models", "list"],
        ["models", "pull"],
        ["models", "path"],
        ["models", "verify"],
    ],
)
def test_every_command_has_help(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert len(result.stdout.splitlines()) > 5


def test_help_of_serve_shows_the_defaults_of_the_settings() -> None:
    result = runner.invoke(app, ["serve", "--help"], env={"COLUMNS": "120"})
    assert f"[default: {Settings().port}]" in result.stdout
    assert f"[default: {Settings().host}]" in result.stdout
    assert "[default: auto]" in result.stdout


def test_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("voice-agent 0.")


def test_help_imports_nothing_slow() -> None:
    program = (
        "import sys\n"
        "from agent.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "slow = {'numpy', 'pydantic', 'websockets', 'starlette', 'soxr', 'torch'}\n"
        "print('slow:', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("slow: []\n")
