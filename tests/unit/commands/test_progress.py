import io

import pytest
from rich.console import Console

from agent.commands.progress import progress_on


def test_plain_lines_for_new_work_and_each_further_tenth() -> None:
    out = io.StringIO()
    with progress_on(Console(file=out, force_terminal=False)) as report:
        report("looking [up]", None)
        report("looking [up]", None)
        for hundredth in range(101):
            report("fetching", hundredth / 100)
    assert out.getvalue().splitlines() == [
        "looking [up]",
        *(f"fetching {tenth}0%" if tenth else "fetching 0%" for tenth in range(11)),
    ]


@pytest.mark.parametrize("fraction", [None, 0.25, 1.0])
def test_a_terminal_gets_a_bar(fraction: float | None) -> None:
    out = io.StringIO()
    with progress_on(Console(file=out, force_terminal=True, width=80)) as report:
        report("fetching", fraction)
    assert "fetching" in out.getvalue()
