"""What `voice-agent doctor` finds on machines of all kinds."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from agent import doctor
from agent.cli import app
from agent.config import Settings, load_settings
from agent.doctor import Finding, State, examine
from agent.engine import factory
from tests.helpers.fake_sounddevice import BUILT_IN, SPEAKERS, SoundDevice

runner = CliRunner()


@pytest.fixture(autouse=True)
def _a_machine_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything of the core and the embedded engine, one microphone, no GPU, no models."""
    monkeypatch.setenv("VOICE_AGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VOICE_AGENT_PORT", "0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "sounddevice", SoundDevice(BUILT_IN))
    installed(monkeypatch, "faster-whisper", "onnxruntime", "xllamacpp", "sounddevice")
    monkeypatch.setattr(factory, "GEMMA_PACKAGES", ("no_such_package",))
    # It would send the logs of all later tests to the runner's closed stream.
    monkeypatch.setattr(doctor, "configure_logging", lambda level: None)
    with capture_logs():
        yield


def installed(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    def version(package: str) -> str:
        if package not in {*packages, "voice-agent"}:
            raise metadata.PackageNotFoundError(package)
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)


def find(name: str, settings: Settings | None = None) -> Finding:
    findings = examine(settings or load_settings())
    return next(finding for finding in findings if finding.name == name)


def nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_default_path_works() -> None:
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "Ready" in result.stdout
    assert "small, of demo quality" in " ".join(result.stdout.split())


def test_json_is_one_object_with_everything() -> None:
    result = runner.invoke(app, ["doctor", "--json"])
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["works"] is True
    names = [finding["name"] for finding in report["findings"]]
    assert {"engine", "extra small", "model whisper-base", "GPU", "microphone"} <= set(names)
    assert len(set(names)) == len(names)


def test_nothing_but_the_object_is_printed() -> None:
    command = [sys.executable, "-m", "agent.cli", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert set(json.loads(done.stdout)) == {"works", "findings"}
    assert done.stderr == ""


def test_a_missing_extra_of_the_default_engine_is_a_failure_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, "faster-whisper")
    finding = find("extra small")
    assert finding.state is State.MISSING
    assert finding.detail == "faster-whisper 1.2.3, onnxruntime missing, xllamacpp missing"
    assert finding.fix.endswith("-m pip install 'voice-agent[small]'")
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "Not ready" in result.stdout
    assert finding.fix in result.stdout


def test_an_extra_for_something_else_is_a_note() -> None:
    assert find("extra gemma").state is State.NOTE
    assert find("extra webrtc").state is State.NOTE


def test_which_engine_would_run_and_why() -> None:
    finding = find("engine")
    assert finding.state is State.OK
    assert finding.detail.startswith("small, of demo quality: ")


@pytest.mark.parametrize("options", [{"model": "google/gemma-4-E4B-it"}, {"engine": "gemma"}])
def test_an_engine_that_cannot_be_had_is_a_failure(options: dict[str, str]) -> None:
    settings = load_settings(**options)
    assert find("engine", settings).state is State.MISSING
    assert find("extra gemma", settings).state is State.MISSING
    assert find("extra small", settings).state is State.OK


def test_models_that_are_not_here_are_fetched_later() -> None:
    finding = find("model whisper-base")
    assert finding.state is State.NOTE
    assert finding.fix == "voice-agent models pull whisper-base"


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    monkeypatch.setenv("VOICE_AGENT_CACHE", str(occupied))
    finding = find("cache")
    assert finding.state is State.MISSING
    assert "VOICE_AGENT_CACHE" in finding.fix


def test_a_disk_without_room_for_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=500_000_000))
    finding = find("cache")
    assert finding.state is State.MISSING
    assert "0.5 GB free" in finding.detail
    assert "VOICE_AGENT_CACHE" in finding.fix
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    assert find("cache").state is State.OK


def test_a_gpu_and_a_broken_driver(tmp_path: Path) -> None:
    assert find("GPU").state is State.NOTE
    nvidia_smi(tmp_path, "echo 'NVIDIA H100, 81559 MiB'; echo 'NVIDIA H100, 81559 MiB'")
    assert find("GPU") == Finding("GPU", State.OK, "NVIDIA H100, 81559 MiB; NVIDIA H100, 81559 MiB")
    nvidia_smi(tmp_path, "exit 9")
    assert "does not work" in find("GPU").detail


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finding = find("address", load_settings(port=taken.getsockname()[1]))
    assert finding.state is State.MISSING
    assert "Address already in use" in finding.detail


def test_an_open_address_without_a_key(tmp_path: Path) -> None:
    assert find("API key").state is State.OK
    assert find("API key", load_settings(host="0.0.0.0")).state is State.MISSING
    key_file = tmp_path / "key"
    assert find("API key", load_settings(api_key_file=key_file)).state is State.MISSING
    key_file.write_text("secret")
    finding = find("API key", load_settings(host="0.0.0.0", api_key_file=key_file))
    assert finding == Finding("API key", State.OK, "set")


def test_the_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("microphone") == Finding("microphone", State.OK, "Built-in")
    monkeypatch.setitem(sys.modules, "sounddevice", SoundDevice(SPEAKERS))
    assert find("microphone").state is State.NOTE


def test_the_extras_are_those_of_the_project() -> None:
    """Every package that is looked for is one that its extra really asks for."""
    required = metadata.requires("voice-agent") or []
    for extra, packages in doctor.EXTRAS.items():
        for package in packages:
            assert any(
                line.startswith(package) and f"extra == '{extra}'" in line.replace('"', "'")
                for line in required
            ), (extra, package)
