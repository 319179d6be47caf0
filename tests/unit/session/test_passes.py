"""When passes over speech that goes on run, and what is counted of them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent.session.commands import BranchPurpose, DropBranch, StartBranch
from agent.session.outbox import Outbox
from agent.session.outputs import PassOutcome, PassReport
from agent.session.passes import SLOW_PASS_S, Pass, Passes
from agent.session.tokens import BranchEnded, BranchFailed, BranchText, TokenUsage

SECOND = 16_000


class Runner:
    """Passes, what they ask for, and a clock."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.outbox = Outbox(lambda prefix: f"{prefix}_{next(numbers)}")
        self.taken: list[Pass] = []
        self.passes = Passes(
            BranchPurpose.CAPTION,
            1.0,
            self.outbox,
            lambda prefix: f"{prefix}_{next(numbers)}",
            self.taken.append,
        )
        self.now = 10.0
        self.running: str | None = None
        self.reports: list[PassReport] = []

    def listen(self, heard_s: float, *, paused: bool = False) -> None:
        self.passes.listen(int(heard_s * SECOND), self.now, paused=paused)
        self.look()

    def begin(self) -> None:
        self.passes.begin(self.now)
        self.look()

    def end(self, text: str = "", *, complete: bool = True, took_s: float = 0.0) -> None:
        assert self.running is not None
        self.now += took_s
        if text:
            assert self.passes.receive(BranchText(self.running, text), self.now)
        event = BranchEnded(self.running, complete, TokenUsage(), {})
        assert self.passes.receive(event, self.now)
        self.look()

    def look(self) -> None:
        """One pass at a time, and one report of each."""
        for output in self.outbox.take():
            match output:
                case StartBranch(branch_id=branch_id, optional=True, item_id=None):
                    assert self.running is None
                    self.running = branch_id
                case DropBranch(branch_id=branch_id):
                    assert self.running == branch_id
                case PassReport():
                    self.reports.append(output)
                    self.running = None
                case _:
                    raise AssertionError(output)


def test_a_pass_starts_with_enough_new_speech_and_gives_what_it_wrote() -> None:
    one = Runner()
    one.listen(0.9)
    assert one.running is None
    one.listen(1.0)
    one.end("some words", took_s=0.3)
    (taken,) = one.taken
    assert (taken.text, taken.source, taken.heard_samples) == ("some words", "", SECOND)
    one.now += 1
    one.listen(1.9)
    assert one.running is None
    one.listen(2.0)
    assert one.running is not None


def test_a_pause_is_looked_at_once_at_once() -> None:
    one = Runner()
    one.listen(0.1, paused=True)
    one.end()
    one.listen(3.0, paused=True)
    assert one.running is None
    one.listen(3.0)
    assert one.running is not None


def test_the_longer_a_pass_takes_the_longer_the_engine_rests() -> None:
    for took_s, rest_s in ((SLOW_PASS_S / 2, SLOW_PASS_S / 4), (SLOW_PASS_S, SLOW_PASS_S)):
        one = Runner()
        one.listen(1.0)
        one.end(took_s=took_s)
        one.now += rest_s - 0.01
        one.listen(9.0)
        assert one.running is None
        one.now += 0.02
        one.listen(9.0)
        assert one.running is not None


def test_each_pass_is_reported_with_what_became_of_it() -> None:
    one = Runner()
    one.listen(1.0)
    one.end("words", took_s=0.5)
    one.begin()
    one.listen(1.0)
    one.end("cut off", complete=False)
    one.begin()
    one.listen(1.0)
    assert one.passes.receive(BranchFailed(str(one.running), "engine_busy", "no"), one.now)
    one.look()
    one.begin()
    one.listen(1.0)
    one.begin()
    assert [report.outcome for report in one.reports] == [
        PassOutcome.ENDED,
        PassOutcome.FAILED,
        PassOutcome.FAILED,
        PassOutcome.DROPPED,
    ]
    assert one.reports[0] == PassReport(BranchPurpose.CAPTION, PassOutcome.ENDED, 0.5)
    assert [taken.text for taken in one.taken] == ["words"]


def test_what_comes_of_other_branches_is_not_taken() -> None:
    one = Runner()
    assert not one.passes.receive(BranchText("branch_x", "words"), one.now)
    one.listen(1.0)
    assert not one.passes.receive(BranchText("branch_x", "words"), one.now)


@given(
    st.lists(
        st.tuples(st.sampled_from(["listen", "pause", "begin", "end", "fail"]), st.floats(0, 5))
    )
)
def test_at_most_one_runs_and_each_is_reported_once(steps: list[tuple[str, float]]) -> None:
    one = Runner()
    heard_s, started = 0.0, 0
    for kind, amount in steps:
        one.now += amount
        before = one.running
        if kind in {"listen", "pause"}:
            heard_s += amount
            one.listen(heard_s, paused=kind == "pause")
            started += before is None and one.running is not None
        elif kind == "begin":
            heard_s = 0.0
            one.begin()
            assert one.running is None
        elif one.running is not None:
            one.end("text", complete=kind == "end")
        assert started == len(one.reports) + (one.running is not None)
    assert len(one.taken) == sum(r.outcome is PassOutcome.ENDED for r in one.reports)
