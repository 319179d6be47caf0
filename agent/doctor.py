"""`voice-agent doctor`: what is installed, what would run, what is missing, how to get it.

Looks without changing anything and without importing anything heavy: whether torch or an
engine's libraries are installed is read from their metadata.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.client.microphone import find_input, load_sounddevice
from agent.config import EngineName, Settings
from agent.engine.factory import choose_engine, select_engine
from agent.errors import ConfigError, ModelStoreError
from agent.gateway.auth import load_key
from agent.logs import configure_logging
from agent.models.store import CACHE_ENV, SPACE_FACTOR, ModelStore, cache_folder

_NVIDIA_SMI_TIMEOUT_S = 10.0

# What each extra of pyproject.toml brings that the program itself imports.
EXTRAS: dict[str, tuple[str, ...]] = {
    "small": ("faster-whisper", "onnxruntime", "xllamacpp"),
    "gemma": ("torch", "transformers", "accelerate"),
    "webrtc": ("aiortc", "python-multipart"),
    "mic": ("sounddevice",),
}


class State(StrEnum):
    """What a finding means."""

    OK = "ok"
    NOTE = "note"  # worth knowing, or needed only for something else
    MISSING = "missing"  # `voice-agent serve` will not work like this


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: Whether it is in order.
        detail: What was found.
        fix: The command that mends it, or empty.
    """

    name: str
    state: State
    detail: str
    fix: str = ""


def run(settings: Settings, *, as_json: bool) -> int:
    """Print all findings; gives the exit status: 0 when `serve` would work."""
    configure_logging("error")
    findings = examine(settings)
    works = all(finding.state is not State.MISSING for finding in findings)
    if as_json:
        report = {"works": works, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(report, ensure_ascii=False))  # noqa: T201
    else:
        show(findings, Console(), works=works)
    return 0 if works else 1


def examine(settings: Settings) -> list[Finding]:
    """Look at everything."""
    return [
        _program(),
        _engine(settings),
        *_extras(settings),
        *_models(),
        _cache(settings),
        _gpu(),
        _address(settings),
        _api_key(settings),
        _microphone(),
    ]


def show(findings: Sequence[Finding], console: Console, *, works: bool) -> None:
    """Print findings for people, then what to do."""
    styles = {State.OK: "green", State.NOTE: "yellow", State.MISSING: "red"}
    table = Table.grid(padding=(0, 2))
    for _ in ("state", "name", "detail"):
        table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.state.value, style=styles[finding.state]),
            Text(finding.name, style="bold"),
            Text(finding.detail),
        )
    console.print(table)
    fixes = [finding for finding in findings if finding.fix]
    if fixes:
        console.print(Text("\nHow to get what is missing:", style="bold"))
    for finding in fixes:
        console.print(Text(f"  {finding.name}: {finding.fix}"), soft_wrap=True)
    console.print()
    if works:
        console.print(Text("Ready: start with `voice-agent serve`.", style="green"))
    else:
        console.print(Text("Not ready: see what is missing above.", style="red"))


def installed_version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _program() -> Finding:
    version = installed_version("voice-agent")
    python = f"Python {platform.python_version()} at {sys.executable}"
    return Finding("voice-agent", State.OK, f"{version}, {python}")


def _engine(settings: Settings) -> Finding:
    choice = choose_engine(settings)
    try:
        select_engine(settings)
    except ConfigError as error:
        return Finding("engine", State.MISSING, str(error))
    note = ", of demo quality" if choice.engine is EngineName.SMALL else ""
    return Finding("engine", State.OK, f"{choice.engine}{note}: {choice.reason}")


def _extras(settings: Settings) -> Iterable[Finding]:
    needed = choose_engine(settings).engine.value
    for extra, packages in EXTRAS.items():
        versions = {package: installed_version(package) for package in packages}
        absent = [package for package, version in versions.items() if version is None]
        detail = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
        if not absent:
            yield Finding(f"extra {extra}", State.OK, detail)
            continue
        state = State.MISSING if extra == needed else State.NOTE
        fix = f"{sys.executable} -m pip install 'voice-agent[{extra}]'"
        yield Finding(f"extra {extra}", state, detail, fix)


def _models() -> Iterable[Finding]:
    try:
        statuses = ModelStore().list()
    except ModelStoreError as error:
        yield Finding("models", State.MISSING, str(error))
        return
    for status in statuses:
        name, size = f"model {status.model.name}", f"{status.model.size_bytes / 1e6:,.0f} MB"
        if status.present:
            yield Finding(name, State.OK, str(status.folder))
        else:
            detail = f"not here yet; {size} are fetched at the first start"
            fix = f"voice-agent models pull {status.model.name}"
            yield Finding(name, State.NOTE, detail, fix)


def _cache(settings: Settings) -> Finding:
    try:
        folder = cache_folder()
        absent = [status.model for status in ModelStore().list() if not status.present]
    except ModelStoreError as error:
        return Finding("cache", State.MISSING, str(error))
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        fix = f"export {CACHE_ENV}=/a/folder/you/can/write"
        return Finding("cache", State.MISSING, f"{existing} cannot be written", fix)
    free_bytes = shutil.disk_usage(existing).free
    detail = f"{folder}, {free_bytes / 1e9:,.1f} GB free"
    needed_bytes = SPACE_FACTOR * sum(model.size_bytes for model in absent)
    if free_bytes >= needed_bytes:
        return Finding("cache", State.OK, detail)
    # The other engine does without what comes from the store.
    small = choose_engine(settings).engine is EngineName.SMALL
    return Finding(
        "cache",
        State.MISSING if small else State.NOTE,
        f"{detail}; fetching the models that are missing takes up to {needed_bytes / 1e9:,.1f} GB",
        f"free some disk, or export {CACHE_ENV}=/a/folder/with/room",
    )


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding(
            "GPU", State.NOTE, "none found (no nvidia-smi); the embedded engine needs none"
        )
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(  # noqa: S603  # a fixed program
            query, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("GPU", State.NOTE, f"nvidia-smi does not work: {error}")
    return Finding("GPU", State.OK, "; ".join(done.stdout.split("\n")).strip("; "))


def _address(settings: Settings) -> Finding:
    where = f"{settings.host} port {settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family):
            return Finding("address", State.OK, f"{where} is free")
    except OSError as error:
        detail = f"cannot listen at {where}: {error.strerror or error}"
        return Finding("address", State.MISSING, detail, "voice-agent serve --port 0")


def _api_key(settings: Settings) -> Finding:
    try:
        key = load_key(settings)
    except ConfigError as error:
        return Finding("API key", State.MISSING, str(error))
    detail = "none, which is enough for this machine alone" if key is None else "set"
    return Finding("API key", State.OK, detail)


def _microphone() -> Finding:
    try:
        sounddevice = load_sounddevice()
        device = find_input(sounddevice, None)
    except ConfigError as error:
        return Finding("microphone", State.NOTE, f"{error} Only `voice-agent talk` needs it.")
    return Finding("microphone", State.OK, str(device["name"]))
