"""Joins one session, its engine conversation and its transport.

The session decides, the engine works, the transport carries; here is all the `await` that
they do without. Four kinds of tasks serve a session, all in one event loop:

    reader   transport → inbox; slow when the inbox is full (back-pressure)
    worker   inbox → resample and score (in the hub) → session
    branch   one per engine branch: its text → session (in `EngineSide`)
    sender   what the session wants sent → transport, in order

Whoever calls the session then calls `_carry_out`, which executes what it wants done.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Any

import structlog

from agent.audio.intake import AudioIntake, Intake
from agent.audio.pcm import SAMPLE_RATE_HZ
from agent.engine.contract import ConversationSettings
from agent.errors import EngineError, InvalidEvent
from agent.gateway.alarm import Alarm
from agent.gateway.engine_side import EngineSide
from agent.gateway.holding import TextHold
from agent.gateway.inbox import AudioMessage, Inbox, Stalled
from agent.gateway.last_text import LastText
from agent.gateway.pauses import PauseScores, pause_judge
from agent.gateway.refusals import error_event
from agent.gateway.reporter import Reporter
from agent.gateway.services import Services, SessionQuery
from agent.gateway.session_types import make_session
from agent.gateway.transport import (
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    CLOSE_POLICY,
    CLOSE_TRY_AGAIN_LATER,
    Transport,
    TransportClosed,
)
from agent.protocol.client_events import (
    CONVERSATION_EVENTS,
    TRANSLATION_EVENTS,
    ClientEvent,
    InputAudioClear,
    InputAudioCommit,
    RefusedEvent,
    SessionClose,
    SessionUpdate,
)
from agent.session import commands, outputs, tokens

log = structlog.get_logger()

# One piece of work for the scorer: 2 s, so that another session never waits for minutes.
MAX_PIECE_SAMPLES = 2 * SAMPLE_RATE_HZ
# How often to look whether speech that waits to be understood has become less.
BACKLOG_POLL_S = 0.05
# When a deadline comes while audio waits to be worked on, that audio goes first.
RETRY_TICK_S = 0.02


class SessionDriver:
    """Runs one session over one transport.

    Args:
        session_id: Its name, on the wire and in logs.
        transport: The connection.
        services: What all sessions share.
        query: What the client asked for in the URL.
    """

    def __init__(
        self, session_id: str, transport: Transport, services: Services, query: SessionQuery
    ) -> None:
        self._transport = transport
        self._services = services
        self._metrics = services.metrics
        self._log = log.bind(session_id=session_id)
        self._reporter = Reporter(services.metrics, self._log)
        self._session = make_session(session_id, services, query, _new_id)
        events = TRANSLATION_EVENTS if query.translates else CONVERSATION_EVENTS
        self._intake: Intake = transport.intake or AudioIntake(self._session.input_format)
        max_waiting_bytes = services.settings.limits.max_waiting_bytes
        self._inbox = Inbox(self._max_audio_bytes(), max_waiting_bytes, events)
        self._query = query
        self._ends_with_close = self._shutting_down = False
        self._backlog_s = 0.0
        self._working = False
        self._outgoing: deque[dict[str, Any] | outputs.Close] = deque()
        self._something_to_send = asyncio.Event()
        self._answered = asyncio.Event()
        self._answered.set()
        self._last_text = LastText()
        self._turns = 0
        self._audio_s = 0.0
        # Kept, because on Python 3.11 each time it is asked for costs a system call.
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._tick)
        self._arrived_at = self._loop.time()
        self._taking_since: float | None = None
        self._hold = TextHold(
            self._session, transport, services, self._sound_waits_since, self._look_again
        )
        transport.on_clear = self._all_written

    async def run(self) -> None:
        """Serve the session until it or its connection ends."""
        try:
            conversation = self._services.engine.open(ConversationSettings())
        except EngineError as error:
            await self._refuse(error)
            return
        self._engine_side = EngineSide(
            conversation, self._services, self._receive_tokens, self._log
        )
        self._stream = self._services.hub.open_stream()
        judge = pause_judge(self._services, conversation)
        self._pause_scores = PauseScores(judge, self._receive_turn_score)
        try:
            self._session.start(self._now())
            self._ends_with_close = self._query.translates
            self._carry_out()
            with self._services.loop_watch.needed():
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read())
                    group.create_task(self._work())
                    group.create_task(self._send())
        except* TransportClosed:
            pass  # the ordinary end; the transport says how
        finally:
            self._end()

    async def shut_down(self, grace_s: float) -> None:
        """Let an answer in progress end within `grace_s` seconds, then close with 1001.

        In a translation session what was heard so far is translated.
        """
        self._shutting_down = True
        if self._ends_with_close:
            self._session.receive_event(SessionClose(type="session.close"), self._now())
            self._carry_out()
        try:
            async with asyncio.timeout(grace_s):
                await self._answered.wait()
        except TimeoutError:
            self._log.info("answer cut off by shutdown")
        await self._transport.close(CLOSE_GOING_AWAY, "the server is shutting down")

    def summary(self) -> dict[str, object]:
        """Counts for the log line of the session's end."""
        return {"turns": self._turns, "audio_s": round(self._audio_s, 1)}

    # ------------------------------------------------------------ tasks

    async def _read(self) -> None:
        while True:
            self._inbox.put(await self._transport.receive(), self._now())
            await self._inbox.wait_for_room()

    async def _work(self) -> None:
        while True:
            await self._inbox.wait_for_entry()
            self._working = True
            entry = self._inbox.take()
            match entry:
                case list():
                    await self._take_audio(entry)
                case RefusedEvent():
                    self._session.report(entry, entry.event_id)
                case Stalled():
                    await self._end_stalled_turn()
                case AudioMessage():
                    raise AssertionError("audio is taken as a list")
                case _:
                    await self._take_event(entry)
            self._working = False
            self._look_at_hold()
            self._carry_out()

    async def _send(self) -> None:
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            while self._outgoing:
                output = self._outgoing.popleft()
                if not isinstance(output, outputs.Close):
                    await self._transport.send(output)
                elif not self._shutting_down:
                    code = CLOSE_NORMAL if output.limit is None else CLOSE_POLICY
                    await self._transport.close(code, output.reason)

    # ------------------------------------------------------------ input

    async def _take_audio(self, messages: list[AudioMessage]) -> None:
        self._taking_since = messages[0].arrived_at
        try:
            await self._wait_for_engine()
            whole = [message for message in messages if self._is_whole(message)]
            if whole:
                await self._take_whole(whole)
        finally:
            self._taking_since = None

    async def _take_whole(self, whole: list[AudioMessage]) -> None:
        data = b"".join(message.data for message in whole)
        self._arrived_at = whole[-1].arrived_at
        # One message may hold minutes; other sessions must not wait for all of it.
        rest = memoryview(data)
        while rest:
            size = self._intake.share_bytes(rest, MAX_PIECE_SAMPLES)
            await self._take_piece(bytes(rest[:size]))
            rest = rest[size:]
            self._carry_out()
        audio_s = self._intake.seconds(data)
        self._audio_s += audio_s
        self._metrics.audio_received_s.inc(audio_s)

    async def _take_piece(self, data: bytes) -> None:
        samples, probabilities = await self._services.hub.score(
            self._stream, self._intake, data, scored=self._session.detects_turns
        )
        self._look_at_hold()
        self._session.receive_audio(samples, probabilities, self._now(), self._arrived_at)

    def _is_whole(self, message: AudioMessage) -> bool:
        try:
            self._intake.check(message.data, in_event=message.in_event)
        except InvalidEvent as error:
            self._session.report(error, message.event_id)
            return False
        return True

    async def _take_event(self, event: ClientEvent) -> None:
        if isinstance(event, InputAudioCommit | InputAudioClear | SessionClose):
            await self._flush_audio()
        self._look_at_hold()
        self._session.receive_event(event, self._now())
        if isinstance(event, SessionUpdate):
            await self._change_format()

    async def _change_format(self) -> None:
        """Read audio as the session's settings now say, where it comes in messages."""
        intake = self._intake
        if isinstance(intake, AudioIntake) and intake.format != self._session.input_format:
            await self._flush_audio()
            self._intake = AudioIntake(self._session.input_format)
            self._inbox.max_audio_bytes = self._max_audio_bytes()

    async def _flush_audio(self) -> None:
        """Give the session what is still inside the resampler and the framer."""
        samples, probabilities = await self._services.hub.flush(
            self._stream, self._intake, scored=self._session.detects_turns
        )
        self._session.receive_audio(samples, probabilities, self._now(), self._arrived_at)

    async def _end_stalled_turn(self) -> None:
        # What is still inside belongs to this turn, not to the next.
        await self._flush_audio()
        self._session.tick(self._now())

    async def _wait_for_engine(self) -> None:
        """Back-pressure: no more audio while too much of it waits to be understood."""
        limit_s = self._services.settings.limits.max_audio_backlog_s
        while (  # noqa: ASYNC110  # these are only numbers
            max(self._engine_side.backlog_s, self._session.backlog_s) > limit_s
        ):
            await asyncio.sleep(BACKLOG_POLL_S)

    def _sound_waits_since(self) -> float | None:
        """When the oldest sound came that the session has not heard."""
        return self._inbox.audio_waits_since if self._taking_since is None else self._taking_since

    def _look_at_hold(self) -> None:
        """Text may be sent next, or there is less to wait for."""
        self._hold.look(is_sending=bool(self._outgoing))

    def _look_again(self) -> None:
        self._look_at_hold()
        self._carry_out()

    def _receive_tokens(self, event: tokens.TokenEvent) -> None:
        self._look_at_hold()
        self._session.receive_tokens(event, self._now())
        self._carry_out()

    def _receive_turn_score(self, number: int, probability: float) -> None:
        self._look_at_hold()
        self._session.receive_turn_score(number, probability, self._now())
        self._carry_out()

    def _tick(self) -> None:
        if self._inbox or self._working:
            if self._session.expire(self._now()):
                self._carry_out()
            self._alarm.set(self._now() + RETRY_TICK_S)
            return
        if self._session.is_stalled(self._now()):
            self._inbox.put_stalled()
            return
        self._look_at_hold()
        self._session.tick(self._now())
        self._carry_out()

    # ------------------------------------------------------------ output

    def _all_written(self) -> None:
        """The connection has taken what it was given."""
        if not self._outgoing:
            self._last_text.written()
            if self._hold.is_on:
                self._look_again()

    def _carry_out(self) -> None:
        """Do all that the session wants done, in order, and set its alarm."""
        for output in self._session.take_output():
            match output:
                case outputs.Send(event=event):
                    self._outgoing.append(event)
                    self._last_text.note(event)
                case outputs.TurnReport():
                    self._turns += 1
                    self._reporter.turn(output)
                case outputs.EarlyAnswerReport(outcome=outcome):
                    self._metrics.early_answers.labels(outcome).inc()
                case outputs.InterruptionReport():
                    self._reporter.interruption(output, self._last_text)
                case outputs.PassReport():
                    self._metrics.note_pass(output.purpose, output.outcome, output.took_s)
                case outputs.Close():
                    self._outgoing.append(output)
                case outputs.ScoreTurn() | outputs.DropScore():
                    self._pause_scores.execute(output)
                case _:
                    self._command(output)
        if self._outgoing:
            self._something_to_send.set()
        if self._session.is_answering:
            self._answered.clear()
        else:
            self._answered.set()
        self._note_backlog(self._session.backlog_s)
        self._set_alarm()

    def _note_backlog(self, backlog_s: float) -> None:
        self._metrics.untranslated_s.inc(backlog_s - self._backlog_s)
        self._backlog_s = backlog_s

    def _command(self, command: commands.Command) -> None:
        try:
            self._engine_side.execute(command)
        except EngineError as error:
            self._log.error("engine refused", command=type(command).__name__, code=error.code)
            self._outgoing.append(error_event(error))

    def _set_alarm(self) -> None:
        deadline = self._session.next_deadline
        if deadline is not None:
            self._alarm.set(deadline)

    # ------------------------------------------------------------ the end

    async def _refuse(self, error: EngineError) -> None:
        self._log.warning("conversation refused", code=error.code)
        try:
            await self._transport.send(error_event(error))
        except TransportClosed:
            return
        busy = error.code == "engine_busy"
        await self._transport.close(
            CLOSE_TRY_AGAIN_LATER if busy else CLOSE_INTERNAL_ERROR, str(error)
        )

    def _end(self) -> None:
        self._ends_with_close = False
        self._alarm.cancel()
        self._hold.close()
        self._services.hub.close_stream(self._stream)
        self._pause_scores.close()
        self._engine_side.close()
        self._note_backlog(0.0)
        self._answered.set()

    def _max_audio_bytes(self) -> int:
        limit_s = self._services.settings.limits.max_audio_backlog_s
        return int(limit_s * self._intake.bytes_per_second)

    def _now(self) -> float:
        return self._loop.time()


def _new_id(prefix: str) -> str:
    """A unique id in the protocol's manner: a prefix and random letters."""
    return f"{prefix}_{secrets.token_hex(10)}"
