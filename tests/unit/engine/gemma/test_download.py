"""Checkpoints by their names on the hub, from a hub on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from huggingface_hub import constants

from agent.engine.gemma.checkpoint import open_checkpoint
from agent.engine.gemma.download import fetch_checkpoint
from agent.errors import ModelStoreError, Unsupported
from agent.models.progress import ignore_progress
from tests.helpers.hub_server import HubServer, hub_server
from tests.helpers.tiny_gemma import save_tiny_gemma

NAME = "google/gemma-4-E2B-it"
FILES_NOT_LOADED = {"onnx", "consolidated.safetensors"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with a tiny checkpoint under a published name, and other files beside it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    save_tiny_gemma(folder)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / "consolidated.safetensors").write_bytes(b"the same weights again")
    with hub_server(NAME, folder) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64 * 1024)
        yield hub


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert fetch_checkpoint(str(tmp_path), ignore_progress) == str(tmp_path)


def test_a_name_is_downloaded_once_and_says_how_far_it_is(hub: HubServer) -> None:
    reports: list[tuple[str, float | None]] = []
    folder = Path(fetch_checkpoint(NAME, lambda *report: reports.append(report)))
    assert {file.name for file in folder.iterdir()} == {
        file.name for file in hub.folder.iterdir() if file.name not in FILES_NOT_LOADED
    }
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (hub.folder / weights).read_bytes()
    assert all(doing.startswith(f"Downloading {NAME}: ") for doing, _ in reports)
    shares = [share for _, share in reports]
    assert len(shares) > 10
    assert shares[-1] == 1.0
    assert reports[-1][0].endswith("MB")
    assert hub.sent.count(weights) == 1

    reports.clear()
    hub.sent.clear()
    assert Path(fetch_checkpoint(NAME, lambda *report: reports.append(report))) == folder
    assert (hub.sent, reports) == ([], [])


def test_it_is_loaded_without_the_hub_once_it_is_here(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    doing: list[str] = []
    opened = open_checkpoint(NAME, device="cpu", progress=lambda what, _: doing.append(what))
    assert opened.name == NAME
    assert doing[-1] == f"Loading {NAME}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.sent.clear()
    again = open_checkpoint(NAME, device="cpu")
    assert again.model.config.audio_config is not None
    assert hub.sent == []


def test_what_cannot_hear_is_refused_before_its_weights_are_fetched(hub: HubServer) -> None:
    shutil.rmtree(hub.folder)
    hub.folder.mkdir()
    save_tiny_gemma(hub.folder, audio=False)
    with pytest.raises(Unsupported, match="no audio tower"):
        open_checkpoint(NAME, device="cpu")
    assert hub.sent == ["config.json"]


def test_a_download_that_breaks_off_goes_on_where_it_was(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the library's own tries
    hub.breaks_at_byte = 100_000
    with pytest.raises(ModelStoreError, match=f"cannot download {NAME}.*start again to go on"):
        fetch_checkpoint(NAME, ignore_progress)
    hub.breaks_at_byte = None
    shares: list[float | None] = []
    folder = Path(fetch_checkpoint(NAME, lambda _, share: shares.append(share)))
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (hub.folder / weights).read_bytes()
    assert shares[0] is not None
    assert shares[0] > 0.02
