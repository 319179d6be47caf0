"""The store with sources that hand out bytes from memory."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ModelStoreError
from agent.models import store as store_module
from agent.models.catalogue import Model, ModelFile
from agent.models.progress import Meter
from agent.models.sources import SourceFailed
from agent.models.staging import Staging
from agent.models.store import ModelStore, cache_folder
from tests.helpers.models import tiny_contents, tiny_model

NAMES = sorted(tiny_contents())


class MemorySource:
    """Gives the files it has; fails when one is missing."""

    def __init__(self, contents: Mapping[str, bytes], failure: str = "it is not here") -> None:
        self._contents = contents
        self._failure = failure
        self.asked: list[str] = []

    def fetch(
        self, model: Model, files: Sequence[ModelFile], staging: Staging, meter: Meter
    ) -> None:
        self.asked += [file.name for file in files]
        for file in files:
            if file.name not in self._contents:
                raise SourceFailed(self._failure)
            meter.show(file.name, 0)
            staging.take(file.pin, io.BytesIO(self._contents[file.name]))
            meter.finish(file.pin.size_bytes)


def _store(root: Path, *sources: MemorySource) -> ModelStore:
    return ModelStore(root, catalogue={"tiny": tiny_model()}, sources=sources)


def test_ensure_fetches_once(tmp_path: Path) -> None:
    source = MemorySource(tiny_contents())
    store = _store(tmp_path, source)
    assert not store.has("tiny")

    folder = store.ensure("tiny")

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny_contents()
    assert store.ensure("tiny") == folder == store.path("tiny")
    assert store.file("tiny", "words.txt") == folder / "words.txt"
    assert len(source.asked) == len(NAMES)
    assert [status.present for status in store.list()] == [True]


def test_nothing_is_left_beside_the_files(tmp_path: Path) -> None:
    _store(tmp_path, MemorySource(tiny_contents())).pull("tiny")

    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in NAMES]

    assert [path.suffix for path in left] == [".lock"]


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    shown: list[tuple[str, float | None]] = []

    _store(tmp_path, MemorySource(tiny_contents())).ensure(
        "tiny", lambda doing, fraction: shown.append((doing, fraction))
    )

    assert shown[0] == ("tiny: words.txt", 0.0)
    assert shown[-1] == ("tiny: ready", 1.0)


def test_the_second_source_is_asked_for_the_rest_only(tmp_path: Path) -> None:
    first = MemorySource({"words.txt": tiny_contents()["words.txt"]})
    second = MemorySource(tiny_contents())
    store = _store(tmp_path, first, second)

    store.pull("tiny")

    assert second.asked == ["weights.bin"]
    assert store.verify("tiny") == ()


def test_what_one_failed_pull_has_finished_the_next_one_keeps(tmp_path: Path) -> None:
    with pytest.raises(ModelStoreError):
        _store(tmp_path, MemorySource({"words.txt": tiny_contents()["words.txt"]})).pull("tiny")
    source = MemorySource(tiny_contents())

    _store(tmp_path, source).pull("tiny")

    assert source.asked == ["weights.bin"]


def test_a_failure_says_every_reason_and_what_to_do(tmp_path: Path) -> None:
    store = _store(tmp_path, MemorySource({}, "the hub sleeps"), MemorySource({}, "pip is sad"))

    with pytest.raises(ModelStoreError) as caught:
        store.ensure("tiny")

    message = str(caught.value)
    assert "tiny could not be fetched: the hub sleeps; pip is sad." in message
    assert "voice-agent models pull tiny" in message
    assert str(tmp_path / "models" / tiny_model().folder_name) in message


class Damage(NamedTuple):
    """What happens to a file."""

    missing: bool = False
    flip_at: int | None = None
    cut_to: int | None = None

    def apply(self, path: Path) -> None:
        if self.missing:
            path.unlink()
            return
        data = bytearray(path.read_bytes())
        if self.flip_at is not None:
            data[self.flip_at % len(data)] ^= 1
        if self.cut_to is not None:
            del data[self.cut_to % len(data) :]
        path.write_bytes(data)


damages = st.one_of(
    st.just(Damage(missing=True)),
    st.builds(Damage, flip_at=st.integers(0, 1 << 20)),
    st.builds(Damage, cut_to=st.integers(0, 1 << 20)),
)


@settings(max_examples=30)
@given(damaged=st.dictionaries(st.sampled_from(NAMES), damages, min_size=1))
def test_pull_repairs_exactly_what_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, damaged: dict[str, Damage]
) -> None:
    root = tmp_path_factory.mktemp("store")
    folder = _store(root, MemorySource(tiny_contents())).pull("tiny")
    for name, damage in damaged.items():
        damage.apply(folder / name)
    source = MemorySource(tiny_contents())
    store = _store(root, source)
    problems = store.verify("tiny")

    store.pull("tiny")

    assert sorted(problem.split(" ")[0] for problem in problems) == sorted(damaged)
    assert sorted(source.asked) == sorted(damaged)
    assert store.verify("tiny") == ()


def test_path_of_a_model_that_is_not_here_names_the_command(tmp_path: Path) -> None:
    store = _store(tmp_path)

    with pytest.raises(ModelStoreError, match="voice-agent models pull tiny"):
        store.path("tiny")
    assert store.verify("tiny") == ("words.txt is missing", "weights.bin is missing")


def test_unknown_names_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    store = _store(tmp_path, MemorySource(tiny_contents()))
    store.pull("tiny")

    with pytest.raises(ModelStoreError, match="no model called 'huge'; there are: tiny"):
        store.ensure("huge")
    with pytest.raises(ModelStoreError, match=r"no file 'x'; it has: words\.txt, weights\.bin"):
        store.file("tiny", "x")


def test_a_full_disk_is_seen_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage)
    source = MemorySource(tiny_contents())

    with pytest.raises(ModelStoreError, match="only 1 MB are free"):
        _store(tmp_path, source).pull("tiny")

    assert source.asked == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")

    with pytest.raises(ModelStoreError, match="VOICE_AGENT_CACHE names another folder"):
        _store(tmp_path, MemorySource(tiny_contents())).pull("tiny")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"VOICE_AGENT_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, Path("/own")),
        ({"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/voice-agent")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/voice-agent"),
        ({}, Path.home() / ".cache/voice-agent"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], expected: Path) -> None:
    assert cache_folder(environment) == expected
