"""`voice-agent models`: what the model store has, and getting it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.commands.progress import progress_on
from agent.models.store import ModelStatus, ModelStore


def show_list() -> None:
    """Print all models and whether they are here."""
    console = Console()
    statuses = ModelStore().list()
    if not console.is_terminal:
        for status in statuses:
            print("\t".join(_cells(status)))  # noqa: T201  # for programs
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("name", "size", "licence", "here", "what it is"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for status in statuses:
        name, size, licence, here, description = _cells(status)
        style = "green" if status.present else "yellow"
        table.add_row(name, size, licence, Text(here, style=style), description)
    console.print(table)


def pull(names: Sequence[str]) -> None:
    """Fetch models; prints the folder of each.

    Raises:
        ModelStoreError: One is unknown or cannot be fetched.
    """
    store = ModelStore()
    for name in names:
        store.model(name)
    for name in names:
        with progress_on(Console(stderr=True)) as report:
            folder = store.pull(name, report)
        print(folder)  # noqa: T201  # the result, for people and programs


def show_path(name: str) -> None:
    """Print a model's folder.

    Raises:
        ModelStoreError: It is unknown or not here.
    """
    print(ModelStore().path(name))  # noqa: T201


def verify(names: Sequence[str]) -> int:
    """Read the files of models again (all that are here when none is named).

    Returns:
        The exit status: 1 when one is not as it should be.
    """
    store, console = ModelStore(), Console()
    # Not only those that are complete: what is cut short is what this is to find.
    chosen = names or [status.model.name for status in store.list() if status.folder.is_dir()]
    if not chosen:
        console.print("No models are here yet; fetch them with `voice-agent models pull NAME`.")
    broken = 0
    for name in chosen:
        problems = store.verify(name)
        broken += bool(problems)
        if not problems:
            console.print(Text(f"{name}: all files are as they should be", style="green"))
            continue
        for problem in problems:
            console.print(Text(f"{name}: {problem}", style="red"), soft_wrap=True)
        console.print(Text(f"  repair it with: voice-agent models pull {name}"), soft_wrap=True)
    return 1 if broken else 0


def _cells(status: ModelStatus) -> tuple[str, str, str, str, str]:
    model = status.model
    return (
        model.name,
        f"{model.size_bytes / 1e6:,.0f} MB",
        model.licence,
        "yes" if status.present else "no",
        model.description,
    )
