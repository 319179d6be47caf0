"""A transcription session in simulated time, for figures that no other work on the machine moves.

The session, the voice activity detector and the recogniser are the real ones; there is no
server, and time is audio time. The recogniser works on one thing at a time, in the order in
which it is asked, and takes the CPU time that it really took here: as if it had one core.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import Samples
from agent.config import Limits, VadSettings
from agent.engine.small.drafts import Drafts
from agent.engine.small.recogniser import Heard, Recogniser
from agent.protocol.config import TranscriptionConfig
from agent.session import commands, outputs, tokens
from agent.session.options import SessionOptions
from agent.session.session import Session
from agent.vad.scorers import Scorer

FRAME_S = FRAME_SAMPLES / 16_000
SILENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Sent:
    """An event and when it was sent, in seconds of audio."""

    event: dict[str, Any]
    at_s: float


class OfflineSession:
    """Plays clips; one session a clip.

    Args:
        recogniser: Of the embedded engine.
        scorer: Of frames.
    """

    def __init__(self, recogniser: Recogniser, scorer: Scorer[Any]) -> None:
        self._recogniser = recogniser
        self._scorer = scorer

    def play(self, samples: Samples, language: str) -> list[Sent]:
        """What is sent for float32[T] and the silence after it."""
        self._language = language
        self._free_at_s = 0.0
        self._clip: Samples = np.zeros(0, np.float32)
        self._closed: list[tuple[str, float]] = []
        self._early: tuple[str, float] | None = None
        self._drafts = Drafts()
        self._due: list[tuple[float, str, str]] = []
        self._sent: list[Sent] = []
        self._committed: dict[str, tuple[str, float]] = {}
        ids = itertools.count()
        self._session = Session(
            TranscriptionConfig(),
            SessionOptions("sess_1", "small", language, VadSettings(), Limits(), 4_000_000_000),
            lambda prefix: f"{prefix}_{next(ids)}",
        )
        state = self._scorer.new_state()
        audio = np.concatenate([samples, np.zeros(int(SILENCE_S * 16_000), np.float32)])
        self._session.start(0.0)
        self._carry_out(0.0)
        for number in range(audio.size // FRAME_SAMPLES):
            now_s = (number + 1) * FRAME_S
            self._deliver(now_s)
            frame = audio[number * FRAME_SAMPLES : (number + 1) * FRAME_SAMPLES]
            score = self._scorer.score([state], frame[None])
            self._session.receive_audio(frame, score, now_s)
            self._carry_out(now_s)
        self._deliver(float("inf"))
        return self._sent

    def _deliver(self, until_s: float) -> None:
        while self._due and min(self._due)[0] <= until_s:
            due = min(self._due)
            self._due.remove(due)
            at_s, branch_id, text = due
            self._session.receive_tokens(tokens.BranchText(branch_id, text), at_s)
            ended = tokens.BranchEnded(branch_id, complete=True, usage=tokens.TokenUsage())
            self._session.receive_tokens(ended, at_s)
            self._carry_out(at_s)

    def _carry_out(self, now_s: float) -> None:
        for output in self._session.take_output():
            match output:
                case outputs.Send(event=event):
                    self._sent.append(Sent(event, now_s))
                case commands.Hear(samples=samples):
                    self._clip = np.concatenate([self._clip, samples])
                case commands.Cut(keep_samples=keep):
                    self._closed.append(self._early or self._hear(self._clip[:keep], now_s))
                    self._clip, self._early = self._clip[keep:], None
                    self._drafts = Drafts()
                case commands.Pause():
                    self._early = self._hear(self._clip, now_s)
                case commands.Resume():
                    self._early = None
                case commands.Forget():
                    self._end_turn()
                case commands.Commit(item_id=item_id):
                    last = self._early or self._hear(self._clip, now_s)
                    self._committed[item_id] = _joined([*self._closed, last])
                    self._end_turn()
                case commands.StartBranch():
                    self._start(output, now_s)
                case commands.DropBranch(branch_id=branch_id):
                    self._due = [due for due in self._due if due[1] != branch_id]

    def _end_turn(self) -> None:
        self._clip, self._closed = np.zeros(0, np.float32), []
        self._early, self._drafts = None, Drafts()

    def _start(self, command: commands.StartBranch, now_s: float) -> None:
        if command.item_id is not None:
            text, ready_s = self._committed[command.item_id]
        elif self._early is not None:
            text, ready_s = _joined([*self._closed, self._early])
        else:
            drafts, start = self._drafts, self._drafts.samples
            before = drafts.text
            heard, ready_s = self._recognise(self._clip[start:], now_s, draft=True)
            drafts.take(heard, start)
            text, ready_s = _joined([*self._closed, (before, 0.0), (heard.text, ready_s)])
        self._due.append((max(now_s, ready_s), command.branch_id, text))

    def _hear(self, samples: Samples, now_s: float) -> tuple[str, float]:
        heard, ready_s = self._recognise(samples, now_s)
        return heard.text, ready_s

    def _recognise(
        self, samples: Samples, now_s: float, *, draft: bool = False
    ) -> tuple[Heard, float]:
        began_s = time.process_time()
        heard = self._recogniser.hear(samples, self._language, draft=draft)
        took_s = time.process_time() - began_s
        self._free_at_s = max(self._free_at_s, now_s) + took_s
        return heard, self._free_at_s


def _joined(parts: list[tuple[str, float]]) -> tuple[str, float]:
    """Texts as one, and when the last of them is known."""
    return " ".join(filter(None, (text for text, _ in parts))), max(at for _, at in parts)
