"""Where unfinished work lies: verified pieces, named by their SHA-256, and partial ones.

Everything here survives a crash and is used again; the folder goes when its model is
complete. Only the holder of the model's lock touches it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agent.models.catalogue import Pin

CHUNK_BYTES = 1024 * 1024


class WrongBytes(Exception):
    """Data is not what its pin says; the message tells how."""


def check_file(path: Path, pin: Pin) -> None:
    """Compare a file's size and SHA-256 with its pin.

    Raises:
        WrongBytes: They differ.
        OSError: The file cannot be read.
    """
    size_bytes = path.stat().st_size
    if size_bytes != pin.size_bytes:
        raise WrongBytes(f"is {size_bytes:,} bytes long instead of {pin.size_bytes:,}")
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 != pin.sha256:
        raise WrongBytes(f"has SHA-256 {sha256[:12]}… instead of {pin.sha256[:12]}…")


class Staging:
    """The folder of one model's unfinished work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder; what lies in it is kept."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def piece(self, pin: Pin) -> Path:
        """Where the verified piece lies once it is there."""
        return self.folder / pin.sha256

    def partial(self, pin: Pin) -> Path:
        """Where the piece grows while it is fetched."""
        return self.folder / f"{pin.sha256}.partial"

    def has(self, pin: Pin) -> bool:
        """Whether the verified piece is there."""
        return self.piece(pin).is_file()

    def accept(self, pin: Pin) -> None:
        """Verify the partial piece and make it a finished one; a wrong one is deleted.

        Raises:
            WrongBytes: It is not what the pin says.
        """
        partial = self.partial(pin)
        try:
            check_file(partial, pin)
        except WrongBytes:
            partial.unlink()
            raise
        # A piece is never hashed again, so it must be on the disk before it has its name.
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(self.piece(pin))

    def take(self, pin: Pin, stream: IO[bytes]) -> None:
        """Make a finished piece of what a stream gives.

        Raises:
            WrongBytes: It is not what the pin says.
        """
        # No more than one byte too many is read, so that no stream can fill the disk.
        left_bytes = pin.size_bytes + 1
        with self.partial(pin).open("wb") as target:
            while left_bytes and (chunk := stream.read(min(CHUNK_BYTES, left_bytes))):
                target.write(chunk)
                left_bytes -= len(chunk)
        self.accept(pin)

    def join(self, pins: Iterable[Pin], whole: Pin) -> None:
        """Join finished pieces into another one.

        Raises:
            WrongBytes: The pieces are right and do not make up the whole.
        """
        with self.partial(whole).open("wb") as target:
            for pin in pins:
                with self.piece(pin).open("rb") as source:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
        self.accept(whole)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for one step; what a killed process left of earlier ones goes first."""
        for stale in self.folder.glob("scratch-*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix="scratch-", dir=self.folder, ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)

    def clear(self) -> None:
        """Remove everything; harmless when nothing is there."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
