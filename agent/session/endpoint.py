"""When a turn of a client with `semantic_vad` ends: keeps what is needed to judge its pauses.

At every pause one judgement is asked for; what comes back sets the silence that ends this
turn in this pause. What comes back late, after speech went on, is ignored.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from agent.audio.pcm import Samples
from agent.config import TurnSettings
from agent.protocol.config import SemanticVad, ServerVad
from agent.session.items import ScoreTurn
from agent.session.outbox import Outbox
from agent.turns.endpointing import Eagerness, silence_needed_ms
from agent.turns.scorers import TURN_SAMPLES


class Endpoint:
    """How long the open turn waits in silence.

    Args:
        settings: The server's threshold and patience.
        outbox: Where the wish for a judgement goes.
    """

    def __init__(self, settings: TurnSettings, outbox: Outbox) -> None:
        self._settings = settings
        self._outbox = outbox
        self._eagerness: Eagerness | None = None
        self._pauses = 0
        self._in_pause = False
        self._heard: deque[Samples] = deque()
        self._heard_samples = 0

    def configure(self, detection: ServerVad | SemanticVad | None) -> None:
        """Judge pauses from now on, or not: another kind of detection keeps no sound."""
        self._eagerness = None
        if isinstance(detection, SemanticVad):
            self._eagerness = detection.eagerness
        else:
            self.over()

    def hear(self, samples: Samples) -> None:
        """More of the turn: float32[T], 16 kHz; kept, not copied."""
        if self._eagerness is None:
            return
        self._heard.append(samples)
        self._heard_samples += len(samples)
        while self._heard_samples - len(self._heard[0]) >= TURN_SAMPLES:
            self._heard_samples -= len(self._heard.popleft())

    def pause(self) -> None:
        """The speaker paused: ask whether that was all."""
        if self._eagerness is None:
            return
        self._pauses += 1
        self._in_pause = True
        self._outbox.put(ScoreTurn(self._pauses, np.concatenate(self._heard)[-TURN_SAMPLES:]))

    def resume(self) -> None:
        """The speaker went on: what is said of the pause counts no more."""
        self._in_pause = False

    def over(self) -> None:
        """The turn has ended or is forgotten."""
        self._in_pause = False
        self._heard.clear()
        self._heard_samples = 0

    def silence_needed_ms(self, number: int, probability: float) -> int | None:
        """Silence that ends the turn in pause `number`; None when that pause is over."""
        if self._eagerness is None or not self._in_pause or number != self._pauses:
            return None
        return silence_needed_ms(probability, self._eagerness, self._settings)
