"""Speaks recordings into a session and waits until they are answered.

Latencies are measured here, by one clock, from the moment at which the last sample of
speech was sent; where the time went inside the server is the server's to say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.client.player import PIECE_S, Player
from agent.client.recording import Recording
from agent.client.session import ClientSession, Event
from agent.client.turns import Turn, TurnTracker
from agent.errors import ConnectionFailed


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """One turn of a recording.

    Attributes:
        turn: What was heard and answered.
        turn_end_delay_ms: From the last sample of speech sent to the news that the turn is
            over; None when it cannot be told (audio sent faster than real time).
        speech_end_to_first_token_ms: To the first text of the answer; None likewise, or
            without an answer.
        stages_ms: Parts of it by stage, as measured by the server; empty when it does not
            measure.
    """

    turn: Turn
    turn_end_delay_ms: float | None
    speech_end_to_first_token_ms: float | None
    stages_ms: dict[str, float]


class Dialogue:
    """One session that recordings are spoken into, one after the other.

    Use as `async with`; events are followed in the background meanwhile.
    """

    def __init__(
        self,
        session: ClientSession,
        tracker: TurnTracker,
        *,
        realtime: bool = True,
        gap_s: float = 1.0,
        timeout_s: float = 60.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Speak through `session`.

        Args:
            session: Freshly opened: its audio starts at 0.
            tracker: Set up for what the session gives.
            realtime: At the speed of a microphone, or as fast as the server takes it.
            gap_s: Least silence after each recording.
            timeout_s: Longest time without any event while an answer is due.
            on_event: Sees every event.
        """
        self._session = session
        self._tracker = tracker
        self._realtime = realtime
        self._gap_s = gap_s
        self._timeout_s = timeout_s
        self._on_event = on_event
        self._player = Player(session.send_audio, session.input_format)
        self._receiver: asyncio.Task[None] | None = None
        self._heard_from_server_at = time.monotonic()
        self._updates_due = 0

    async def __aenter__(self) -> Dialogue:
        self._receiver = asyncio.create_task(self._receive())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._receiver is not None:
            self._receiver.cancel()
            await asyncio.gather(self._receiver, return_exceptions=True)

    async def say(self, recording: Recording) -> list[SpokenTurn]:
        """Speak a recording and wait until all its turns are over and answered.

        Silence is sent until then. Returns its turns in order; none when no speech was
        found in it.

        Raises:
            ConnectionFailed: The connection was lost, or nothing came for `timeout_s`.
        """
        before = len(self._tracker.turns)
        samples = recording.at_rate(self._session.input_format.rate_hz)
        await self._player.play(samples, paced=self._realtime)
        end_ms = self._player.position_ms
        await self._player.play_silence(self._gap_s, paced=self._realtime)
        await self._wait_until_answered()
        turns = self._tracker.turns[before:]
        return [self._measured(turn, end_ms if turn is turns[-1] else None) for turn in turns]

    async def _wait_until_answered(self) -> None:
        # The answer to an event comes after all events about the audio sent before it: from
        # then on it is known what was noticed, however slow the server is …
        await self._catch_up()
        await self._wait_while(self._tracker.waiting_for)
        # … and what the server measured follows its answer.
        await self._catch_up()

    async def _catch_up(self) -> None:
        self._updates_due += 1
        await self._session.update_session()
        await self._wait_while(
            lambda: "its answer to session.update" if self._updates_due else None
        )

    async def _wait_while(self, missing: Callable[[], str | None]) -> None:
        """Send silence in real time until nothing is missing any more."""
        started_at = time.monotonic()
        while (what := missing()) is not None:
            await self._player.play_silence(PIECE_S, paced=True)
            self._raise_if_lost()
            silent_s = time.monotonic() - max(started_at, self._heard_from_server_at)
            if silent_s > self._timeout_s:
                raise ConnectionFailed(
                    f"The server has sent nothing for {silent_s:.0f} s; {what} is missing. "
                    "Its log may say why; give it longer with a longer timeout."
                )

    def _raise_if_lost(self) -> None:
        if self._receiver is not None and self._receiver.done():
            self._receiver.result()
            raise ConnectionFailed("The server ended the session.")

    async def _receive(self) -> None:
        async for event in self._session:
            now = time.monotonic()
            self._heard_from_server_at = now
            if event["type"] == "session.updated":
                self._updates_due -= 1
            self._tracker.receive(event, now)
            if self._on_event is not None:
                self._on_event(event)

    def _measured(self, turn: Turn, end_ms: float | None) -> SpokenTurn:
        """Add the latencies.

        Args:
            turn: What the tracker knows.
            end_ms: Where speech surely had ended, if the server does not say where it did.
        """
        speech_end_ms = turn.timings["speech_end_ms"] if turn.timings else end_ms
        sent_at = None
        if self._realtime and speech_end_ms is not None:
            sent_at = self._player.sent_at(speech_end_ms)
        return SpokenTurn(
            turn=turn,
            turn_end_delay_ms=_milliseconds(sent_at, turn.ended_at),
            speech_end_to_first_token_ms=_milliseconds(sent_at, turn.first_text_at),
            stages_ms=dict(turn.timings["stages_ms"]) if turn.timings else {},
        )


def _milliseconds(start_s: float | None, end_s: float | None) -> float | None:
    if start_s is None or end_s is None:
        return None
    return round((end_s - start_s) * 1000, 1)
