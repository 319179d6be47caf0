"""Turns as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.client.turns import Turn

NOTHING = "—"
PENDING = "…"

_LABEL_WIDTH = len("latency")

_STATUS_NOTES = {
    "cancelled": " (interrupted)",
    "incomplete": " (cut at the token limit)",
    "failed": " (failed)",
}

Row = tuple[str, Text]


def turn_rows(turn: Turn, *, answers: bool, latency: str, live: bool = False) -> list[Row]:
    """Label and text of what is known of a turn; `live` when there is more to come."""
    empty = PENDING if live else NOTHING
    rows = [("heard", Text(turn.transcript or empty, style="cyan"))]
    if answers:
        answer = Text(turn.answer.strip() or empty, style="green")
        note = Text(_STATUS_NOTES.get(turn.status or "", ""), style="dim")
        rows.append(("answer", answer.append_text(note)))
    if latency:
        rows.append(("latency", Text(latency, style="dim")))
    return rows


def describe_latency(
    first_token_ms: float | None, turn_end_delay_ms: float | None, stages_ms: Mapping[str, float]
) -> str:
    """The latencies of one turn in a sentence; empty when nothing is known."""
    parts = []
    if first_token_ms is not None:
        parts.append(f"first token {first_token_ms:,.0f} ms after the end of speech")
    if turn_end_delay_ms is not None:
        parts.append(f"turn over after {turn_end_delay_ms:,.0f} ms")
    stages = ", ".join(f"{name} {round(value):,}" for name, value in stages_ms.items())
    if stages:
        parts.append(f"in the server: {stages} ms")
    return "; ".join(parts)


def as_grid(rows: Sequence[Row]) -> Table:
    """Labels on the left, text wrapped beside them; for terminals."""
    grid = Table.grid(padding=(0, 2))
    for label, text in rows:
        grid.add_row(Text(f"  {label:<{_LABEL_WIDTH}}", style="dim"), text)
    return grid


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print rows: wrapped on a terminal, one line each elsewhere."""
    if console.is_terminal:
        console.print(as_grid(rows))
        return
    for label, text in rows:
        console.print(Text(f"  {label:<{_LABEL_WIDTH}} "), text, soft_wrap=True)
