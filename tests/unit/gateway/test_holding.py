"""When text waits for sound that is not heard yet, with a clock of our own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.gateway.holding import (
    HOLD_AFTER_S,
    LONGEST_HOLD_S,
    LOOK_AGAIN_S,
    HoldOutcome,
    SoundHold,
)

SOON_S = HOLD_AFTER_S / 2


class Holding:
    """A hold that is looked at; notes how its waits ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[HoldOutcome, float]] = []
        self.hold = SoundHold(lambda outcome, took_s: self.ended.append((outcome, took_s)))

    def waits(
        self, now: float, since: float | None, *, stalled: bool = False, unread: bool = False
    ) -> bool:
        due_at = self.hold.look(now, since, stalled=stalled, unread=unread)
        assert self.hold.is_on is (due_at is not None)
        assert due_at is None or now < due_at <= now + LONGEST_HOLD_S
        return due_at is not None


def test_sound_that_is_heard_in_time_holds_nothing_up() -> None:
    holding = Holding()
    assert not holding.waits(100.0, None)
    assert not holding.waits(100.0, 100.0 - SOON_S)
    assert holding.ended == []


def test_text_waits_until_no_old_sound_is_left() -> None:
    holding = Holding()
    assert holding.waits(100.0, 100.0 - HOLD_AFTER_S)
    assert holding.waits(100.01, 100.01 - HOLD_AFTER_S)
    assert not holding.waits(100.02, 100.0)
    assert [outcome for outcome, _ in holding.ended] == [HoldOutcome.HEARD]


def test_a_stall_while_text_waits_makes_all_that_is_read_old() -> None:
    holding = Holding()
    assert holding.waits(100.0, 99.9)
    assert holding.waits(100.1, 100.1, stalled=True)
    assert holding.waits(100.11, 100.1)
    assert not holding.waits(100.12, 100.11)


def test_text_waits_no_longer_than_that_and_not_again_until_all_is_heard() -> None:
    holding = Holding()
    assert holding.waits(100.0, 99.9)
    assert not holding.waits(100.0 + LONGEST_HOLD_S, 99.9)
    assert not holding.waits(105.0, 104.0)  # still behind
    assert not holding.waits(106.0, 106.0)  # caught up
    assert holding.waits(107.0, 106.9)
    assert holding.ended == [(HoldOutcome.GAVE_UP, LONGEST_HOLD_S)]


def test_after_a_stall_all_counts_as_old_also_what_nobody_has_read() -> None:
    holding = Holding()
    assert not holding.waits(100.0, 100.0, unread=True)
    assert not holding.waits(100.0, None, stalled=True)
    assert holding.waits(100.0, 100.0, stalled=True)
    assert not holding.waits(100.001, None)
    assert holding.waits(101.0, None, stalled=True, unread=True)
    assert holding.hold.look(101.001, None, stalled=False, unread=True) == 101.001 + LOOK_AGAIN_S
    assert holding.waits(101.002, 101.002)  # read, and not heard yet
    assert not holding.waits(101.003, None)


sounds = st.lists(
    st.tuples(
        st.floats(0.0, 0.1),  # after the one before
        st.floats(0.0, 0.2),  # from its coming until it is read
        st.floats(0.0, 3.0),  # from there until it is heard, if nothing before it waits
    ),
    min_size=1,
    max_size=8,
)


@given(sounds, st.lists(st.floats(0.0, 1.5), min_size=1, max_size=40))
def test_whenever_text_goes_all_old_sound_is_heard_unless_it_took_too_long(
    sounds: list[tuple[float, float, float]], gaps_s: list[float]
) -> None:
    """Sound comes, is read and heard in order, each late by any time; text wants to go."""
    spans, came, free_at = [], 100.0, 100.0
    for gap_s, unread_s, work_s in sounds:
        came += gap_s
        read = max(came + unread_s, spans[-1][1] if spans else 0.0)
        free_at = max(free_at, read) + work_s
        spans.append((came, read, free_at))
    holding, now, began = Holding(), 100.0, None
    for gap_s in gaps_s:
        now += gap_s
        waiting = [read for _, read, heard in spans if read <= now < heard]
        unread = any(came <= now < read for came, read, _ in spans)
        # The loop looks at its connections all the time, except while it stands still.
        stalled = any(
            came < now < read + HOLD_AFTER_S and read - came > 0.02 for came, read, _ in spans
        )
        held = holding.waits(now, min(waiting, default=None), stalled=stalled, unread=unread)
        old = [
            came for came, _, heard in spans if came <= now - HOLD_AFTER_S - 0.02 and now < heard
        ]
        gave_up = bool(holding.ended) and holding.ended[-1][0] is HoldOutcome.GAVE_UP
        assert held or not old or gave_up
        began = (now if began is None else began) if held else None
        assert began is None or now - began < LONGEST_HOLD_S
