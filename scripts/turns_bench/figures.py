"""Figures from what was observed. Pure: the same observations give the same figures.

What each figure means is written down in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent.audio.pcm import SAMPLE_RATE_HZ
from scripts.turns_bench.clips import Span
from scripts.turns_bench.dialogues import Dialogue, Pause, TrueTurn
from scripts.turns_bench.observed import Observation, SeenTurn

# A turn that ends while the first frames after a pause are judged was ended by the pause.
AFTER_PAUSE_SAMPLES = SAMPLE_RATE_HZ // 10
# The server may find the last sound of a word to be silence a little before the truth does.
BEFORE_END_SAMPLES = SAMPLE_RATE_HZ // 10


@dataclass
class Tally:
    """Counts over any number of dialogues.

    Attributes:
        inside, inside_ended: Pauses inside sentences, and those that ended the turn.
        between, between_ended: Pauses between the sentences of a turn, likewise.
        elsewhere_ended: Turns that ended before the true end, but in no pause put in.
        delays_ms: From each true end of speech to the end of the turn.
        ends_missed: True ends after which no turn ended before the next speech.
        server_delays_ms: The server's own measure at those ends.
        speech, heard: Samples of speech, and those of them inside turns.
        turns_without_speech: Turns that hold no sample of speech.
    """

    inside: int = 0
    inside_ended: int = 0
    between: int = 0
    between_ended: int = 0
    elsewhere_ended: int = 0
    delays_ms: list[float] = field(default_factory=list)
    ends_missed: int = 0
    server_delays_ms: list[float] = field(default_factory=list)
    speech: int = 0
    heard: int = 0
    turns_without_speech: int = 0

    def add(self, dialogue: Dialogue, seen: Observation) -> None:
        """Count one dialogue."""
        ends = sorted(turn.end for turn in seen.turns if turn.end is not None)
        for turn in dialogue.turns:
            self._count_pauses(turn, ends)
        for number, turn in enumerate(dialogue.turns):
            last = number == len(dialogue.turns) - 1
            next_start = dialogue.samples.size if last else dialogue.turns[number + 1].start
            self._count_end(turn, next_start, seen)
        heard_spans = [(turn.start, turn.end or dialogue.samples.size) for turn in seen.turns]
        self.speech += sum(end - start for start, end in dialogue.speech)
        self.heard += covered(dialogue.speech, heard_spans)
        self.turns_without_speech += sum(
            not covered(dialogue.speech, [span]) for span in heard_spans
        )

    def _count_pauses(self, turn: TrueTurn, ends: Sequence[int]) -> None:
        in_pauses = 0
        for pause in turn.pauses:
            ended = sum(_ends_in(pause, end) for end in ends)
            in_pauses += ended
            if pause.inside:
                self.inside += 1
                self.inside_ended += ended > 0
            else:
                self.between += 1
                self.between_ended += ended > 0
        before_end = turn.end - BEFORE_END_SAMPLES
        self.elsewhere_ended += sum(turn.start < end < before_end for end in ends) - in_pauses

    def _count_end(self, turn: TrueTurn, next_start: int, seen: Observation) -> None:
        ending = _ending(seen.turns, turn.end - BEFORE_END_SAMPLES, next_start)
        if ending is None:
            self.ends_missed += 1
            return
        assert ending.end is not None
        if seen.sent_at is None:
            self.delays_ms.append((ending.end - turn.end) * 1000 / SAMPLE_RATE_HZ)
        else:
            assert ending.ended_at is not None
            self.delays_ms.append((ending.ended_at - seen.sent_at(turn.end)) * 1000)
        if ending.server_delay_ms is not None:
            self.server_delays_ms.append(ending.server_delay_ms)

    def figures(self) -> dict[str, Any]:
        """What is printed."""
        return {
            "cut_short_percent": percent(self.inside_ended, self.inside),
            "turn_end_delay_p50_ms": percentile(self.delays_ms, 50),
            "turn_end_delay_p95_ms": percentile(self.delays_ms, 95),
            "speech_heard_percent": percent(self.heard, self.speech, digits=3),
            "pauses_inside": self.inside,
            "pauses_between": self.between,
            "between_ended_percent": percent(self.between_ended, self.between),
            "ended_elsewhere": self.elsewhere_ended,
            "turns": len(self.delays_ms) + self.ends_missed,
            "ends_missed": self.ends_missed,
            "server_delay_p50_ms": percentile(self.server_delays_ms, 50),
            "server_delay_p95_ms": percentile(self.server_delays_ms, 95),
            "turns_without_speech": self.turns_without_speech,
        }


def _ends_in(pause: Pause, end: int) -> bool:
    return pause.silent_from < end <= pause.resumes_at + AFTER_PAUSE_SAMPLES


def _ending(turns: Iterable[SeenTurn], after: int, before: int) -> SeenTurn | None:
    """The first turn that ended between two positions."""
    for turn in turns:
        if turn.end is not None and after <= turn.end < before:
            return turn
    return None


def tally_by_noise(pairs: Iterable[tuple[Dialogue, Observation]]) -> dict[str, Any]:
    """The figures over all dialogues, and `by_noise` those of each distance of the noise."""
    total, parts = Tally(), {}
    for dialogue, seen in pairs:
        key = "none" if dialogue.snr_db is None else f"{dialogue.snr_db:g} dB below"
        total.add(dialogue, seen)
        parts.setdefault(key, Tally()).add(dialogue, seen)
    shown = (
        "cut_short_percent",
        "turn_end_delay_p50_ms",
        "turn_end_delay_p95_ms",
        "speech_heard_percent",
        "turns_without_speech",
    )
    by_noise = {key: {name: part.figures()[name] for name in shown} for key, part in parts.items()}
    return total.figures() | {"by_noise": by_noise}


def detail(dialogue: Dialogue, seen: Observation) -> dict[str, Any]:
    """All pauses and turns of one dialogue, to find out why; positions in seconds of audio."""
    ends = [turn.end for turn in seen.turns if turn.end is not None]
    return {
        "dialogue": dialogue.name,
        "pauses": [
            {
                "said": pause.said,
                "at_s": _seconds(pause.at),
                "silent_from_s": _seconds(pause.silent_from),
                "resumes_at_s": _seconds(pause.resumes_at),
                "length_s": _seconds(pause.length),
                "inside": pause.inside,
                "ended_turn": any(_ends_in(pause, end) for end in ends),
            }
            for turn in dialogue.turns
            for pause in turn.pauses
        ],
        "true_ends": [{"said": turn.said, "at_s": _seconds(turn.end)} for turn in dialogue.turns],
        "turns": [
            {
                "start_s": _seconds(turn.start),
                "end_s": None if turn.end is None else _seconds(turn.end),
            }
            for turn in seen.turns
        ],
    }


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE_HZ, 3)


@dataclass(frozen=True)
class Speechless:
    """What came of sound without speech.

    Attributes:
        kind: Which sound, and how loud.
        hours: How much of it.
        turns: How many turns were announced.
    """

    kind: str
    hours: float
    turns: int


def false_turns(results: Sequence[Speechless]) -> dict[str, Any]:
    """False turns an hour, over all sounds and by kind."""
    kinds: dict[str, list[Speechless]] = {}
    for result in results:
        kinds.setdefault(result.kind, []).append(result)
    return {
        "false_turns_per_hour": _per_hour(results),
        "false_turns": sum(result.turns for result in results),
        "hours_without_speech": round(sum(result.hours for result in results), 3),
        "false_turns_per_hour_by_sound": {
            kind: _per_hour(group) for kind, group in sorted(kinds.items())
        },
    }


def _per_hour(results: Sequence[Speechless]) -> float | None:
    hours = sum(result.hours for result in results)
    return round(sum(result.turns for result in results) / hours, 2) if hours else None


@dataclass(frozen=True)
class Interruption:
    """What came of one sound over a running answer.

    Attributes:
        kind: `speech`, or which backchannel.
        running: Whether the answer was still being given when the sound was heard. If
            not, nothing is counted.
        last_text_ms: From the moment at which 200 ms of speech had been sent to the last
            text of that answer; 0 or less when that came before. None for a backchannel.
        cancelled: Whether the answer was cancelled because of it.
        announced: Whether the server took it for speech at all.
        said: What was said over the answer: a recording's name, or the backchannel.
        stages_ms: Where the time went, by stage; empty where that is not known.
    """

    kind: str
    running: bool
    last_text_ms: float | None
    cancelled: bool
    announced: bool
    said: str = ""
    stages_ms: dict[str, float] = field(default_factory=dict)


def interruption_figures(results: Sequence[Interruption]) -> dict[str, Any]:
    """Time to the last text, and the share of backchannels that cancelled."""
    counted = [one for one in results if one.running]
    speech = [one for one in counted if one.kind == "speech"]
    backchannels = [one for one in counted if one.kind != "speech"]
    stopped = [
        (round(max(0.0, one.last_text_ms)), one)
        for one in speech
        if one.last_text_ms is not None and one.cancelled
    ]
    last_text_ms = [ms for ms, _ in stopped]
    slowest = sorted(stopped, key=lambda pair: -pair[0])[:3]
    stages = [one.stages_ms for _, one in stopped if one.stages_ms]
    kinds = sorted({one.kind for one in backchannels})
    return {
        "interruption_to_last_text_ms": _spread(last_text_ms),
        "slowest_interruptions_ms": [
            (ms, one.said, {name: round(stage) for name, stage in one.stages_ms.items()})
            for ms, one in slowest
        ],
        "interruption_stages_ms": {
            name: _spread([each[name] for each in stages]) for name in (stages or [{}])[0]
        },
        "backchannels_interrupted_percent": _cancelled_percent(backchannels),
        "backchannels_interrupted_percent_by_sound": {
            kind: _cancelled_percent([one for one in backchannels if one.kind == kind])
            for kind in kinds
        },
        "backchannels": len(backchannels),
        "backchannels_announced": sum(one.announced for one in backchannels),
        "interruptions": len(speech),
        "interruptions_ignored": sum(not one.cancelled for one in speech),
        "answers_too_short": len(results) - len(counted),
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {
        f"p{share}" if share < 100 else "max": percentile(values, share) for share in (50, 95, 100)
    }


def _cancelled_percent(results: Sequence[Interruption]) -> float | None:
    return percent(sum(one.cancelled for one in results), len(results))


def covered(spans: Iterable[Span], by: Iterable[Span]) -> int:
    """How many samples of `spans` (which do not overlap) lie inside any span of `by`."""
    cover = merged(by)
    return sum(
        max(0, min(end, high) - max(start, low)) for start, end in spans for low, high in cover
    )


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same samples in spans that do not overlap."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def percent(part: int, whole: int, digits: int = 1) -> float | None:
    """A share in percent; None of nothing."""
    return round(100 * part / whole, digits) if whole else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """A percentile, linear between two values; None of nothing."""
    return round(float(np.percentile(values, share)), 1) if values else None
