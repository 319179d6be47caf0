"""Which turns are answered, when, and what stops an answer.

Joins the responses with what happens around them: an answer begun early at a pause, speech
over an answer, and turns that wait until an answer in progress has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.config import InterruptionSettings
from agent.protocol.config import AnyConfig, SessionConfig
from agent.session import settings
from agent.session.early import EarlyAnswer, EarlyAnswers
from agent.session.interruption import Overlap, Verdict, WordCheck, Words
from agent.session.listening import Progress, Turn
from agent.session.outbox import NewId, Outbox
from agent.session.reports import report_interruption, report_turn
from agent.session.responses import Response, ResponsePlan, Responses
from agent.session.suspicion import Suspicion
from agent.session.tokens import TokenEvent
from agent.turns.backchannels import is_backchannel


class Answering:
    """Starts, holds back and stops the answers of one session.

    Args:
        config: The session's settings; see `configure`.
        make_item: Makes a turn that has ended an item of the conversation.
        interruption: What speech over an answer does.
        answers_early: Whether answers are begun at pauses.
        sends_timings: Whether the client gets our timing events.
        responses: The responses.
        outbox: Where events and commands go.
        new_id: Makes ids.
    """

    def __init__(
        self,
        config: AnyConfig,
        make_item: Callable[[Turn], None],
        interruption: InterruptionSettings,
        *,
        answers_early: bool,
        sends_timings: bool,
        responses: Responses,
        outbox: Outbox,
        new_id: NewId,
    ) -> None:
        self._config = config
        self._make_item = make_item
        self._limits = interruption
        self._answers_early = answers_early
        self._sends_timings = sends_timings
        self._responses = responses
        self._outbox = outbox
        self._early = EarlyAnswers(outbox, new_id)
        self._words = WordCheck(outbox, new_id, self._is_backchannel)
        # What is being said over an answer, and turns that wait: for their words, or for an
        # answer in progress to end.
        self._speaking: Overlap | None = None
        self._waiting: list[Overlap] = []
        self._held = False
        self._suspicion = Suspicion(interruption.suspect_after_ms)
        self._judged_at = float("-inf")

    @property
    def interrupts(self) -> bool:
        """Whether speech over an answer stops it."""
        detection = self._config.audio.input.turn_detection
        return detection is not None and detection.interrupt_response

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        times = [self._words.deadline, self._suspicion.deadline]
        times += (overlap.quiet_until for overlap in self._overlaps)
        return min((time for time in times if time and time > self._judged_at), default=None)

    @property
    def max_output_tokens(self) -> int | str:
        """Of an answer, unless the client says otherwise for one; a number or `inf`."""
        assert isinstance(self._config, SessionConfig)  # others give no responses
        return self._config.max_output_tokens

    def start_threshold(self, now: float) -> float:
        """While the echo of an answer may be heard, less likely speech opens no turn."""
        guard, last_text_at = self._limits, self._responses.last_text_at
        if not guard.echo_guard_ms:
            return 0.0
        is_near = last_text_at is not None and now < last_text_at + guard.echo_guard_ms / 1000
        return guard.echo_guard_threshold if is_near or self._responses.active else 0.0

    def hold(self, *, held: bool, now: float) -> None:
        """Keep text of the answer in progress back until all is heard, or do not any more."""
        if held is not self._held:
            self._held = held
            self._judge(now)

    def configure(self, config: AnyConfig, now: float) -> None:
        """Other settings, from now on."""
        self._config = config
        self._early.drop()
        self._judge(now)

    def context_changed(self) -> None:
        """What an early answer was begun on is not so any more."""
        self._early.drop()

    # ------------------------------------------------------------ speech (TurnTaker)

    def frame_heard(self, likelihood: float, samples: int, now: float) -> None:
        """One more frame was scored: somebody may be beginning to speak."""
        if self._suspicion.push(likelihood, samples, now):
            self._judge(now)

    def speech_continues(self, progress: Progress, now: float) -> None:
        """Somebody speaks, or pauses, in the open turn."""
        overlap = self._speaking
        if overlap is None:
            if self._responses.active is None or not self.interrupts:
                return
            overlap = self._speaking = Overlap(withheld_at=self._suspicion.since)
        if overlap.go_on(progress, now):
            self._judge(now)

    def speaker_pauses(self, now: float) -> None:
        """The turn may be over: begin to answer it, or find out what was said over an answer."""
        if self._speaking is not None:
            self._speaking.pause(now)
            self._judge(now)
        elif self._answers_early and settings.creates_responses(self._config) and not self._is_busy:
            limit = self.max_output_tokens
            self._early.begin(limit if isinstance(limit, int) else None, now)

    def speaker_goes_on(self, now: float) -> None:
        """The turn was not over."""
        self._early.drop()
        if self._speaking is not None:
            self._speaking.quiet_at = None
            self._judge(now)

    def speech_forgotten(self, now: float) -> None:
        """What was being said is no turn, or the client cleared it."""
        self._early.drop()
        self._suspicion.forget()
        if (overlap := self._speaking) is not None:
            self._speaking = None
            self._words.drop(overlap)
        self._judge(now)

    def turn_ended(self, turn: Turn) -> None:
        """A turn is over: answer it, at once or later, or not at all."""
        self._make_item(turn)
        overlap, self._speaking = self._speaking or Overlap(), None
        overlap.turn = turn
        overlap.pause(turn.ended_at)
        overlap.wants_answer = turn.reason == "idle" or (
            settings.creates_responses(self._config) and turn.announced
        )
        undecided = overlap.words in {Words.PENDING, Words.BACKCHANNEL}
        if overlap.wants_answer and not self._is_busy and not undecided:
            self._answer(turn, turn.ended_at)
            return
        self._early.drop()
        self._waiting.append(overlap)
        self._judge(turn.ended_at)

    # ------------------------------------------------------------ responses

    def create(self, plan: ResponsePlan) -> None:
        """Begin a response that the client asked for; the caller has checked that it may."""
        self._early.drop()
        if plan.in_conversation:
            self._give_up(self._waiting)  # it answers them too
        self._start(plan)

    def cancel(self, response: Response, now: float) -> None:
        """Stop a response because the client says so.

        What was said over it counts as any turn then: many clients cancel as soon as they
        hear that somebody speaks.
        """
        self._responses.cancel(response, "client_cancelled")
        if response.plan.in_conversation:
            self._stop_judging()
            for overlap in self._waiting:
                self._words.drop(overlap)
        self._response_ended(response, now)

    def receive(self, event: TokenEvent, now: float) -> None:
        """Take what a branch of the engine gave."""
        if self._words.receive(event):
            self._judge(now)
        elif not self._early.receive(event):
            ended = self._responses.receive(event, now)
            if ended is not None:
                self._response_ended(ended, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.deadline is not None and now >= self.deadline:
            self._judge(now)

    # ------------------------------------------------------------ inside

    @property
    def _overlaps(self) -> list[Overlap]:
        return [*self._waiting, *([self._speaking] if self._speaking else [])]

    @property
    def _keeps_back(self) -> bool:
        """Whether text waits until it is known whether somebody speaks."""
        return self._held or self._suspicion.since is not None

    @property
    def _is_busy(self) -> bool:
        """Whether an answer is in progress, or a turn waits for one."""
        return self._responses.active is not None or bool(self._waiting)

    @property
    def _is_known_backchannel(self) -> bool:
        return self._speaking is not None and self._speaking.words is Words.BACKCHANNEL

    def _is_backchannel(self, text: str) -> bool:
        transcription = self._config.audio.input.transcription
        return is_backchannel(text, transcription.language if transcription else None)

    def _judge(self, now: float) -> None:
        """Do to the answer in progress, and to turns that wait, what all overlaps say."""
        self._judged_at = now
        self._words.tick(now)
        self._suspicion.tick(now)
        verdicts = set()
        if self.interrupts:
            if self._keeps_back:
                verdicts.add(Verdict.WITHHOLD)
            for overlap in self._overlaps:
                self._words.follow(overlap, now)
                verdicts.add(overlap.verdict(self._limits, now))
        active = self._responses.active
        if active is not None:
            if Verdict.CANCEL in verdicts:
                self._report_interruption(active)
                self._responses.cancel(active, "turn_detected")
                self._report_answer(active)
            elif Verdict.WITHHOLD in verdicts:
                self._responses.withhold(active)
            elif self._responses.release(active, now) is not None:
                self._report_answer(active)
        if Verdict.CANCEL in verdicts and self._speaking is not None:
            # The floor is this speaker's: turns that waited are answered together with this one.
            self._stop_judging()
            self._give_up(self._waiting)
        elif self._responses.active is None and not self._is_known_backchannel:
            self._stop_judging()
        self._settle_waiting(now)

    def _stop_judging(self) -> None:
        """What is being said is a turn like any other: there is no answer that it is over."""
        if self._speaking is not None:
            self._words.drop(self._speaking)
            self._speaking = None

    def _settle_waiting(self, now: float) -> None:
        """Let go of turns that need no answer; answer the last one when nothing is in the way."""
        self._give_up(
            overlap
            for overlap in self._waiting
            if overlap.words is Words.BACKCHANNEL
            or not (overlap.wants_answer or overlap.words is Words.PENDING)
        )
        if not self._waiting or self._responses.active is not None:
            return
        if any(overlap.words is Words.PENDING for overlap in self._waiting):
            return
        last = self._waiting.pop()
        self._give_up(self._waiting)
        assert last.turn is not None
        self._answer(last.turn, now)

    def _give_up(self, overlaps: Iterable[Overlap]) -> None:
        """These turns stay in the conversation without an answer of their own."""
        for overlap in list(overlaps):
            self._waiting.remove(overlap)
            self._words.drop(overlap)
            assert overlap.turn is not None
            self._report_turn(overlap.turn, None)

    def _answer(self, turn: Turn, now: float) -> None:
        """Answer a turn; what of the answer was begun early is sent at once."""
        early = self._early.take()
        plan = ResponsePlan(max_output_tokens=self.max_output_tokens, turn=turn)
        self._start(plan, early)
        for event in early.events if early is not None else ():
            self.receive(event, now)

    def _start(self, plan: ResponsePlan, early: EarlyAnswer | None = None) -> None:
        self._responses.start(plan, early)
        if self._keeps_back and self.interrupts and self._responses.active is not None:
            self._responses.withhold(self._responses.active)

    def _response_ended(self, response: Response, now: float) -> None:
        self._report_answer(response)
        self._judge(now)

    def _report_answer(self, response: Response) -> None:
        if response.plan.turn is not None:
            self._report_turn(response.plan.turn, response)

    def _report_interruption(self, response: Response) -> None:
        for overlap in self._overlaps:
            report = report_interruption(overlap, response)
            if report is not None:
                self._outbox.put(report)

    def _report_turn(self, turn: Turn, response: Response | None) -> None:
        report, timings = report_turn(turn, response)
        self._outbox.put(report)
        if self._sends_timings:
            self._outbox.send(timings)
