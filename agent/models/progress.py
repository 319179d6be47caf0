"""Progress of a pull: bytes of model files done, as one fraction."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float | None], None]
"""Called with (what is being done, fraction done 0…1 or None when unknown)."""

_SMALLEST_STEP = 0.005


def ignore_progress(description: str, fraction: float | None) -> None:
    """A `Progress` that shows nothing."""


class Meter:
    """Adds up what the sources have done and reports it, at most 200 times or so."""

    def __init__(self, label: str, total_bytes: int, progress: Progress) -> None:
        self._label = label
        self._total_bytes = max(total_bytes, 1)
        self._progress = progress
        self._done_bytes = 0
        self._shown: tuple[str, float | None] = ("", None)

    def show(self, doing: str, further_bytes: int | None) -> None:
        """Report `further_bytes` beyond what is finished; None when that is unknown."""
        fraction = None
        if further_bytes is not None:
            fraction = min((self._done_bytes + further_bytes) / self._total_bytes, 1.0)
        shown_doing, shown_fraction = self._shown
        if (
            doing == shown_doing
            and fraction is not None
            and shown_fraction is not None
            and shown_fraction <= fraction < min(shown_fraction + _SMALLEST_STEP, 1.0)
        ):
            return
        self._shown = (doing, fraction)
        self._progress(f"{self._label}: {doing}", fraction)

    def restart(self, done_bytes: int) -> None:
        """Another source begins; that much is done and stays done."""
        self._done_bytes = done_bytes

    def finish(self, size_bytes: int) -> None:
        """A piece of that size is done and stays done."""
        self._done_bytes += size_bytes
