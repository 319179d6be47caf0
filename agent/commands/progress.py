"""Progress of slow work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

Report = Callable[[str, float | None], None]
"""Called with (what is being done, fraction done 0…1 or None when unknown)."""


@contextmanager
def progress_on(console: Console) -> Iterator[Report]:
    """A function to report progress to while the block runs; may be called from threads."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("starting", total=None)

        def report(doing: str, fraction: float | None) -> None:
            total = None if fraction is None else 1.0
            bars.update(task, description=doing, total=total, completed=fraction or 0.0)

        yield report


class PlainProgress:
    """One line for each new thing done and each further tenth of it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: tuple[str, int] | None = None

    def __call__(self, doing: str, fraction: float | None) -> None:
        """Report; see `Report`."""
        # A hair is added because 0.3 * 10 may come out below 3.
        now = (doing, 0 if fraction is None else int(fraction * 10 + 1e-6))
        if now == self._shown:
            return
        self._shown = now
        share = "" if fraction is None else f" {fraction:.0%}"
        self._console.print(f"{doing}{share}", markup=False, highlight=False, soft_wrap=True)
