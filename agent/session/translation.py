"""The sans-I/O session of type `translation`: speech in, the same in another language out.

Driven like `agent.session.session`. Speech is heard in segments (`agent.session.segments`);
each is one item of the engine's conversation, translated in one branch, and deleted when its
texts were sent: a session may last for hours. Branches run side by side, their texts are sent
in the order in which the segments were said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.audio.pcm import SAMPLES_PER_MS, AudioFormat, Samples
from agent.config import Limits, VadSettings
from agent.errors import InvalidEvent, LimitExceeded, LocalError, RemoteError
from agent.protocol import server_events
from agent.protocol.client_events import ClientEvent, SessionClose, SessionUpdate
from agent.protocol.translation import INPUT_FORMAT, TranslationConfig
from agent.session.commands import BranchPurpose, Commit, Configure, DeleteItem, StartBranch
from agent.session.expiry import Expiry
from agent.session.listening import Turn
from agent.session.outbox import NewId, Outbox
from agent.session.outputs import Close, Output, TurnReport
from agent.session.previews import Previews, Texts
from agent.session.running_text import RunningText
from agent.session.segments import Segments
from agent.session.targets import NotTranslated, check_target, first_config
from agent.session.tokens import BranchEnded, BranchFailed, BranchText, TokenEvent

ELAPSED_STEP_MS = 200
"""`elapsed_ms` goes in steps of the protocol's translation frames."""


@dataclass(frozen=True, slots=True)
class TranslationOptions:
    """What a translation session is made with.

    Attributes:
        session_id: Its name, also in logs.
        model: The model's name as it is shown.
        language: Of the speech when the client names none; None to detect it.
        targets: Codes of the languages that can be translated into; None for any.
        vad: How speech is found.
        limits: What a client may do.
        expires_at: Unix time at which the longest session ends, for `session.created`.
        extensions: Extensions that the client switched on.
        while_spoken: Whether what was said so far is translated while more is being said.
        settings: To begin with, each as in `session.update`; checked already.
    """

    session_id: str
    model: str
    language: str | None
    targets: tuple[str, ...] | None
    vad: VadSettings
    limits: Limits
    expires_at: int
    extensions: frozenset[str] = frozenset()
    while_spoken: bool = False
    settings: tuple[Mapping[str, object], ...] = ()


@dataclass(slots=True)
class _Segment:
    """A segment whose texts were not all sent.

    Attributes:
        turn: What was heard.
        config: What was asked for when it was begun.
        texts: Both, as far as they were sent.
        waiting: What its branch gave and was not looked at yet.
        status: As a response's: `in_progress` until its branch has ended.
    """

    turn: Turn
    config: TranslationConfig
    texts: Texts
    waiting: list[TokenEvent] = field(default_factory=list)
    status: str = "in_progress"
    first_text_at: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    output_tokens: int = 0


class TranslationSession:
    """One client's translation.

    Args:
        options: What it is made with.
        new_id: Makes unique ids from a prefix.
    """

    def __init__(self, options: TranslationOptions, new_id: NewId) -> None:
        self._options = options
        self._new_id = new_id
        self._config = first_config(options.targets, options.settings)
        self._open_config = self._config
        self._configured: Configure | None = None
        self._outbox = Outbox(new_id)
        self._segments = Segments(
            options.vad, self._outbox, new_id, self._segment_begun, self._segment_ended
        )
        self._pending: deque[_Segment] = deque()
        self._by_branch: dict[str, _Segment] = {}
        self._source, self._translation = RunningText(), RunningText()
        self._previews = Previews(self._outbox, new_id, self._show_preview)
        self._expiry = Expiry(
            options.limits, self._outbox, sends_timings="timings" in options.extensions
        )
        self._closing: Close | None = None
        self._is_over = False

    # ------------------------------------------------------------ what the driver reads

    @property
    def input_format(self) -> AudioFormat:
        """How the client's audio is coded."""
        return INPUT_FORMAT

    @property
    def detects_turns(self) -> bool:
        """Whether audio must be scored: always."""
        return True

    @property
    def is_answering(self) -> bool:
        """Whether something that was said is not translated yet."""
        return bool(self._pending)

    @property
    def is_interruptible(self) -> bool:
        """Whether speech would stop an answer: nobody is answered."""
        return False

    @property
    def backlog_s(self) -> float:
        """Seconds of speech that wait for their translation."""
        return sum(segment.turn.audio_s for segment in self._pending)

    @property
    def next_deadline(self) -> float | None:
        """When `tick` must be called, if nothing else happens before."""
        deadlines = (self._segments.deadline, self._expiry.deadline)
        return min((time for time in deadlines if time is not None), default=None)

    def is_stalled(self, now: float) -> bool:
        """Whether `tick` will end the open segment, because no more audio comes."""
        return self._segments.is_stalled(now)

    def take_output(self) -> list[Output]:
        """What is to be done, in order; each output is given once."""
        return self._outbox.take()

    # ------------------------------------------------------------ what happens

    def start(self, now: float) -> None:
        """Begin: greets the client."""
        self._expiry.start(now)
        self._configure_engine()
        self._outbox.send(server_events.session_created(self._wire_config()))

    def receive_audio(
        self,
        samples: Samples,
        probabilities: NDArray[np.float32],
        now: float,
        arrived_at: float | None = None,
    ) -> None:
        """Take audio; what comes after `session.close` is not heard.

        Args:
            samples: float32[T], mono, 16 kHz.
            probabilities: float32[ceil(T / 512)], how likely each frame is speech.
            now: The time.
            arrived_at: When the last sample arrived, if earlier than now.
        """
        if self._closing is None:
            self._expiry.active(now)
            arrived_at = now if arrived_at is None else arrived_at
            self._segments.receive(samples, probabilities, now, arrived_at)
            if self._options.while_spoken and not self._pending:
                segments = self._segments
                self._previews.listen(segments.open_samples, segments.position_sample, now)

    def receive_event(self, event: ClientEvent, now: float) -> None:
        """Take one event of the client; what is wrong with it becomes an `error` event."""
        self._expiry.active(now)
        try:
            match event:
                case SessionUpdate():
                    self._update(event)
                case SessionClose():
                    self._close(Close(None, ""), now)
                case _:
                    raise LocalError(f"{event.type} is no event of a translation session")
        except RemoteError as error:
            self.report(error, event.event_id)

    def receive_tokens(self, event: TokenEvent, now: float) -> None:
        """Take what a branch of the engine gave."""
        segment = self._by_branch.get(event.branch_id)
        if segment is None:
            self._previews.receive(event, now)
            return
        segment.waiting.append(event)
        if not isinstance(event, BranchText):
            del self._by_branch[event.branch_id]
        self._send_in_order(now)

    def receive_turn_score(self, number: int, probability: float, now: float) -> None:
        """Nobody's turn ends here: no pause is judged."""

    def hold_text(self, *, held: bool, now: float) -> None:
        """Nothing that speech may stop is sent."""

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        self._segments.tick(now)
        self.expire(now)

    def expire(self, now: float) -> bool:
        """Announce the end or end, if it is time; whether there is output."""
        closing = self._expiry.tick(now)
        if closing is not None and self._closing is None:
            self.report(LimitExceeded(closing.reason, code="session_expired"))
            self._close(closing, now)
        return bool(self._outbox)

    def report(self, error: RemoteError | LocalError, event_id: str | None = None) -> None:
        """Tell the client about an error; the session goes on."""
        self._outbox.send(server_events.error(error, event_id))

    # ------------------------------------------------------------ events of the client

    def _update(self, event: SessionUpdate) -> None:
        if self._closing is not None:
            raise InvalidEvent("the session is being closed; nothing can be changed any more")
        config = self._config.updated(event.session)
        check_target(config.audio.output.language, self._options.targets)
        self._config = config
        self._outbox.send(server_events.session_updated(self._wire_config()))

    def _close(self, closing: Close, now: float) -> None:
        if self._closing is None:
            self._closing = closing
            self._segments.flush(now)
            self._end_when_done()

    # ------------------------------------------------------------ segments

    def _segment_begun(self) -> None:
        """Settings that change while somebody speaks count from the next segment on."""
        self._open_config = self._config
        self._configure_engine()

    def _segment_ended(self, turn: Turn) -> None:
        last = self._pending[-1].turn.item_id if self._pending else None
        texts = self._previews.close(turn.ended_at)
        segment = _Segment(turn, self._open_config, texts)
        branch_id = self._new_id("branch")
        self._pending.append(segment)
        self._by_branch[branch_id] = segment
        self._outbox.put(Commit(turn.item_id, last))
        self._outbox.put(StartBranch(branch_id, BranchPurpose.TRANSLATION, item_id=turn.item_id))

    def _send_in_order(self, now: float) -> None:
        """Send what the branches gave, of the earliest segment first."""
        while self._pending:
            segment = self._pending[0]
            waiting, segment.waiting = segment.waiting, []
            for event in waiting:
                self._take(segment, event, now)
            if segment.status == "in_progress":
                break
            self._pending.popleft()
            self._source.next_segment()
            self._translation.next_segment()
            self._outbox.put(DeleteItem(segment.turn.item_id))
            self._report_segment(segment, now)
        self._end_when_done()

    def _take(self, segment: _Segment, event: TokenEvent, now: float) -> None:
        match event:
            case BranchText():
                self._send(segment, segment.texts.take(event), now)
            case BranchEnded():
                self._send(segment, segment.texts.finish(), now)
                segment.status = "completed" if event.complete else "incomplete"
                segment.stages_ms = event.stages_ms
                segment.output_tokens = event.usage.output_tokens
            case BranchFailed(code=code, message=message):
                segment.status = "failed"
                self._outbox.send(server_events.error(NotTranslated(segment.turn, code, message)))

    def _send(self, segment: _Segment, texts: tuple[str, str], now: float) -> None:
        sent = self._send_texts(*texts, config=segment.config, end_sample=segment.turn.end_sample)
        if sent and segment.first_text_at is None:
            segment.first_text_at = now

    def _show_preview(self, source: str, translation: str, end_sample: int) -> None:
        self._send_texts(source, translation, config=self._open_config, end_sample=end_sample)

    def _send_texts(
        self, source: str, translation: str, *, config: TranslationConfig, end_sample: int
    ) -> bool:
        """Send more of both texts, if there is any to be sent."""
        elapsed_ms = -(-end_sample // (SAMPLES_PER_MS * ELAPSED_STEP_MS)) * ELAPSED_STEP_MS
        audio = config.audio
        source = self._source.grow(source) if audio.input.transcription is not None else ""
        translation = self._translation.grow(translation)
        language = audio.output.language if "timings" in self._options.extensions else None
        if source:
            self._outbox.send(server_events.input_transcript_delta(source, elapsed_ms))
        if translation:
            self._outbox.send(
                server_events.output_transcript_delta(translation, elapsed_ms, language)
            )
        return bool(source or translation)

    def _end_when_done(self) -> None:
        if self._closing is not None and not self._pending and not self._is_over:
            self._is_over = True
            self._outbox.send(server_events.session_closed())
            self._outbox.put(self._closing)

    # ------------------------------------------------------------ inside

    def _configure_engine(self) -> None:
        transcription = self._config.audio.input.transcription
        spoken = transcription.language if transcription is not None else None
        command = Configure(
            instructions="",
            tools=(),
            language=spoken or self._options.language,
            translate_into=self._config.audio.output.language,
        )
        if command != self._configured:
            self._configured = command
            self._outbox.put(command)

    def _report_segment(self, segment: _Segment, now: float) -> None:
        turn = segment.turn
        first_text_ms = None
        if segment.first_text_at is not None:
            first_text_ms = (segment.first_text_at - turn.speech_ended_at) * 1000
        stages_ms = {"endpointing": turn.turn_end_delay_ms} | segment.stages_ms
        report = TurnReport(
            item_id=turn.item_id,
            response_id=None,
            status=segment.status,
            audio_s=turn.audio_s,
            clips=turn.clips,
            end_reason=turn.reason,
            turn_end_delay_ms=turn.turn_end_delay_ms,
            first_token_ms=first_text_ms,
            stages_ms={name: round(value, 1) for name, value in stages_ms.items()},
            output_tokens=segment.output_tokens,
        )
        self._outbox.put(report)
        if "timings" in self._options.extensions:
            self._outbox.send(
                server_events.segment_timings(
                    item_id=turn.item_id,
                    start_ms=turn.start_sample // SAMPLES_PER_MS,
                    end_ms=turn.end_sample // SAMPLES_PER_MS,
                    status=segment.status,
                    speech_end_to_first_text_ms=first_text_ms and round(first_text_ms, 1),
                    speech_end_to_done_ms=round((now - turn.speech_ended_at) * 1000, 1),
                    backlog_s=round(self.backlog_s, 2),
                )
            )

    def _wire_config(self) -> server_events.Wire:
        return {
            "id": self._options.session_id,
            **self._config.to_wire(self._options.model),
            "expires_at": self._options.expires_at,
        }
