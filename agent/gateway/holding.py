"""When the text of an answer waits: for sound that is not heard yet, and for a slow client.

A session keeps text back once it has heard enough speech over an answer. On a busy machine it hears
late, and until then would send what it would have kept back had it heard in time. So text waits,
too, while sound lies about unheard: before it is sent, because the history keeps what was sent.
When the sound is heard the session lets the text go, or goes on to keep it.

What waits for a slow client in a queue of ours is not sent either: text is let go only while
nothing before it waits to be written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum

from agent.gateway.alarm import Alarm
from agent.gateway.services import Services
from agent.gateway.transport import Transport
from agent.session.base import DrivenSession

HOLD_AFTER_S = 0.04
"""Text waits for sound that came so long ago; one is heard after 8 ms, on busy cores after 25."""

LONGEST_HOLD_S = 1.0
"""Text waits no longer for sound, and then not again until all of it was heard: what scores it, or
the engine that holds it up, is too slow, or a client sends more than is spoken."""

LOOK_AGAIN_S = 0.005
"""How often to look whether what lies in a connection was read."""


class HoldOutcome(StrEnum):
    """How a wait for sound ended."""

    HEARD = "heard"
    GAVE_UP = "gave_up"


class SoundHold:
    """Whether text waits for sound, as a state machine without a clock; times in seconds.

    Args:
        ended: Told how each wait ended and how long it was.
    """

    def __init__(self, ended: Callable[[HoldOutcome, float], None]) -> None:
        self._ended = ended
        self._since: float | None = None
        # Whether it is known when the sound that text waits for has come. Where it is not, text
        # waits for all that had come when it was read, which was at `_read_at`.
        self._is_dated = True
        self._read_at: float | None = None
        self._given_up = False

    @property
    def is_on(self) -> bool:
        """Whether text waits."""
        return self._since is not None

    def look(
        self, now: float, waits_since: float | None, *, stalled: bool, unread: bool
    ) -> float | None:
        """Begin to wait, go on or end.

        Args:
            now: The time.
            waits_since: When the oldest sound came that the session has not heard; None without.
            stalled: Whether what has come may be older than it seems, since nobody looked.
            unread: Whether something lies in the connection that nobody has looked at.

        Returns:
            When to look again at the latest; None when text does not wait.
        """
        is_old = waits_since is not None and now - waits_since >= HOLD_AFTER_S
        is_behind = is_old or (stalled and (unread or waits_since is not None))
        if self._since is None:
            if self._given_up or not is_behind:
                self._given_up = is_behind
                return None
            self._since, self._read_at, self._is_dated = now, None, True
        self._is_dated = self._is_dated and not (stalled or unread)
        if self._is_dated:
            is_heard = not is_old
        elif unread:
            is_heard = False
        else:
            self._read_at = self._read_at or now
            is_heard = waits_since is None or waits_since > self._read_at
        if is_heard:
            self._end(HoldOutcome.HEARD, now)
            return None
        give_up_at = self._since + LONGEST_HOLD_S
        if now >= give_up_at:
            self._end(HoldOutcome.GAVE_UP, now)
            return None
        return min(give_up_at, now + LOOK_AGAIN_S) if unread else give_up_at

    def _end(self, outcome: HoldOutcome, now: float) -> None:
        assert self._since is not None
        took_s, self._since = now - self._since, None
        self._given_up = outcome is HoldOutcome.GAVE_UP
        self._ended(outcome, took_s)


class TextHold:
    """Has one session keep text back while it must wait.

    Args:
        session: The session.
        transport: Its connection.
        services: What all sessions share.
        waits_since: When the oldest sound came that the session has not heard, in seconds.
        look_again: Called when it is time to, though nothing has happened.
    """

    def __init__(
        self,
        session: DrivenSession,
        transport: Transport,
        services: Services,
        waits_since: Callable[[], float | None],
        look_again: Callable[[], None],
    ) -> None:
        self._session = session
        self._transport = transport
        self._services = services
        self._waits_since = waits_since
        self._sound = SoundHold(self._note_end)
        self._held = False
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, look_again)

    @property
    def is_on(self) -> bool:
        """Whether the session keeps text back."""
        return self._held

    def look(self, *, is_sending: bool) -> None:
        """Tell the session what it may send now, whenever it is about to, or has heard.

        Args:
            is_sending: Whether there is something that the transport does not have yet.
        """
        held = False
        if self._session.is_interruptible:
            held = self._waits_for_sound() or is_sending or not self._transport.is_clear
        if held is not self._held:
            self._held = held
            self._session.hold_text(held=held, now=self._loop.time())

    def close(self) -> None:
        """Look no more."""
        self._alarm.cancel()

    def _waits_for_sound(self) -> bool:
        stalled = self._services.loop_watch.stalled_within(HOLD_AFTER_S)
        in_order, out_of_order = self._waits_since(), self._transport.audio_waits_since
        waiting = [since for since in (in_order, out_of_order) if since is not None]
        is_uncertain = stalled or self._sound.is_on
        look_at = self._sound.look(
            # The loop's own time stands still within one of its rounds, however long that takes.
            time.monotonic(),
            min(waiting, default=None),
            stalled=stalled,
            # What is out of order gets to the session like what is read only then.
            unread=out_of_order is not None or (is_uncertain and self._transport.has_unread),
        )
        if look_at is None:
            self._alarm.cancel()
            return False
        self._alarm.set(look_at)
        return True

    def _note_end(self, outcome: HoldOutcome, took_s: float) -> None:
        if self._session.is_answering:
            self._services.metrics.text_hold_s.labels(outcome).observe(took_s)
