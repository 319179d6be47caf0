"""Counters and histograms of one server, in the registry of one object.

The object is passed to whoever measures; nothing here is global, so that tests and
several servers in one process do not disturb each other. Times are in seconds, as
Prometheus wants them.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

# From a cached answer on a GPU to a small model on a busy machine.
_STAGE_BUCKETS_S = (
    0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0,
)  # fmt: skip
# Fine around the goal (99 % below 50 ms), so that a percentile read from it means something.
_LOOP_DELAY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05,
    0.075, 0.1, 0.15, 0.2, 0.5, 1.0,
)  # fmt: skip


class Metrics:
    """All metrics of one server.

    Attributes:
        registry: Where they are registered.
        sessions_open: Sessions now.
        sessions: Sessions that ended, by `outcome`: `client` (the client closed),
            `lost` (it vanished), `shutdown`, `limit` (idle or longest session),
            `slow_reader`, `error` (our fault).
        refused: Connections refused, by `reason` (the refusal's code).
        turns: User turns that ended; in translation sessions, segments.
        turn_scores: Pauses to be judged, by `outcome`: `made`, `skipped` (too much to do),
            `dropped` (the speaker went on first, or the turn was over), `failed`.
        turn_score_s: How long a judgement took, the wait for its turn included.
        audio_received_s: Seconds of audio received, over all sessions.
        audio_packets: Packets of audio over WebRTC, by `outcome`: `received`, `lost` (never came,
            or too late), `failed` (damaged, or a gap before one that could not be filled).
        early_answers: Answers begun at a pause, by `outcome`: each is `begun`, then `kept` (the
            turn was over), `dropped` (the speaker went on) or `failed` (the engine was too busy,
            or could not).
        passes: Passes over speech that goes on, by `purpose` (`caption`, `translation`) and
            `outcome`: `ended`, `dropped` (the speech was over first), `failed` (the engine had no
            time, or could not).
        pass_s: How long those took that ended, by `purpose`.
        responses: Responses that ended, and segments translated, by `status` of the protocol.
        untranslated_s: Seconds of speech that wait for their translation, over all sessions.
        stage_s: Parts of `first_token_s`, by `stage`: `endpointing` (end of speech to the end
            of the turn), then what the engine names, then `other`.
        first_token_s: End of speech to the first token.
        interruption_s: What speech that cancelled an answer took, by `stage`, from the arrival of
            its 200th ms: `heard` (its scores), `last_text` (the last text was written; 0 when
            that was before); and `writing`, from the last text's release to that.
        text_hold_s: How long text of an answer waited for sound that had come and was not heard,
            by `outcome`: `heard`, or `gave_up` where that took too long.
        loop_delay_s: How late the event loop runs what is due.
        engine_restarts: Engine processes that had to be replaced.
        engine_ready: 1 while the engine can answer.
        backlog_s: Seconds of speech heard and not understood yet, over all sessions.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions_open = Gauge(
            "voice_agent_sessions_open", "Sessions open now.", registry=registry
        )
        self.sessions = Counter(
            "voice_agent_sessions", "Sessions ended, by outcome.", ["outcome"], registry=registry
        )
        self.refused = Counter(
            "voice_agent_refused", "Connections refused, by reason.", ["reason"], registry=registry
        )
        self.turns = Counter("voice_agent_turns", "User turns ended.", registry=registry)
        self.turn_scores = Counter(
            "voice_agent_turn_scores", "Pauses judged, by outcome.", ["outcome"], registry=registry
        )
        self.turn_score_s = Histogram(
            "voice_agent_turn_score_seconds",
            "From a pause to the probability that the speaker has finished.",
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self.audio_received_s = Counter(
            "voice_agent_audio_received_seconds", "Audio received.", registry=registry
        )
        self.audio_packets = Counter(
            "voice_agent_audio_packets",
            "Packets of audio over WebRTC, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.responses = Counter(
            "voice_agent_responses", "Responses ended, by status.", ["status"], registry=registry
        )
        self.early_answers = Counter(
            "voice_agent_early_answers",
            "Answers begun at a pause, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.passes = Counter(
            "voice_agent_passes",
            "Passes over speech that goes on (captions, translations), by outcome.",
            ["purpose", "outcome"],
            registry=registry,
        )
        self.pass_s = Histogram(
            "voice_agent_pass_seconds",
            "How long a pass over speech that goes on takes.",
            ["purpose"],
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self.stage_s = Histogram(
            "voice_agent_stage_seconds",
            "Where the time from the end of speech to the first token goes, by stage.",
            ["stage"],
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self.first_token_s = Histogram(
            "voice_agent_first_token_seconds",
            "End of speech to the first token.",
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self.interruption_s = Histogram(
            "voice_agent_interruption_seconds",
            "What speech that cancelled an answer took, by stage.",
            ["stage"],
            buckets=_LOOP_DELAY_BUCKETS_S,
            registry=registry,
        )
        self.text_hold_s = Histogram(
            "voice_agent_text_hold_seconds",
            "How long text waited for sound that was not heard yet, by outcome.",
            ["outcome"],
            buckets=_LOOP_DELAY_BUCKETS_S,
            registry=registry,
        )
        self.loop_delay_s = Histogram(
            "voice_agent_event_loop_delay_seconds",
            "How late the event loop runs what is due.",
            buckets=_LOOP_DELAY_BUCKETS_S,
            registry=registry,
        )
        self.engine_restarts = Counter(
            "voice_agent_engine_restarts", "Engine processes replaced.", registry=registry
        )
        self.engine_ready = Gauge(
            "voice_agent_engine_ready", "1 while the engine can answer.", registry=registry
        )
        self.backlog_s = Gauge(
            "voice_agent_backlog_seconds", "Speech not understood yet.", registry=registry
        )
        self.untranslated_s = Gauge(
            "voice_agent_translation_backlog_seconds",
            "Speech not translated yet.",
            registry=registry,
        )
        self._engine_restarts_noted = 0
        ProcessCollector(registry=registry)

    def note_engine(self, *, ready: bool, restarts: int, backlog_s: float) -> None:
        """Take over the engine's own numbers; `restarts` is its count since it was started."""
        self.engine_ready.set(ready)
        self.engine_restarts.inc(restarts - self._engine_restarts_noted)
        self._engine_restarts_noted = restarts
        self.backlog_s.set(backlog_s)

    def note_pass(self, purpose: str, outcome: str, took_s: float) -> None:
        """A pass over speech that goes on is over."""
        self.passes.labels(purpose, outcome).inc()
        if outcome == "ended":
            self.pass_s.labels(purpose).observe(took_s)

    def render(self) -> bytes:
        """All metrics in Prometheus's text format; its media type is `CONTENT_TYPE`."""
        return generate_latest(self.registry)
