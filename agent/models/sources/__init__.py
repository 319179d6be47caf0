"""Where model files come from. A source puts verified pieces into a model's staging folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.models.catalogue import Model, ModelFile
from agent.models.progress import Meter
from agent.models.staging import Staging


class SourceFailed(Exception):
    """This source could not give what was asked; the message says why."""


class Source(Protocol):
    """One place to fetch model files from."""

    def fetch(
        self, model: Model, files: Sequence[ModelFile], staging: Staging, meter: Meter
    ) -> None:
        """Put the files into `staging` as pieces named by their pins.

        What was finished stays finished when it raises, and so do partial pieces.

        Raises:
            SourceFailed: Not all of them could be had here.
            OSError: The staging folder cannot be written.
        """
