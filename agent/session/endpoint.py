"""When a turn of a client with `semantic_vad` ends: keeps what is needed to judge its pauses.

At every pause judgements are asked for: of the sound, and of the words where the engine
recognises them then anyhow. Each that comes sets the silence that ends this turn in this
pause. What comes late, after speech went on, is ignored. The sound is judged a little before
a silence is long enough for a pause, so that the score is there when the engine begins to
recognise: both take all of a core.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from agent.audio.pcm import SAMPLES_PER_MS, Samples
from agent.config import TurnScorerName, TurnSettings
from agent.protocol.config import SemanticVad, ServerVad
from agent.session.commands import BranchPurpose, DropBranch, StartBranch
from agent.session.outbox import NewId, Outbox
from agent.session.outputs import DropScore, ScoreTurn
from agent.session.tokens import BranchEnded, BranchText, TokenEvent
from agent.turns.endpointing import Eagerness, silence_needed_ms
from agent.turns.evidence import Evidence, probability_of_end
from agent.turns.scorers import TURN_SAMPLES, as_in_pause


class Endpoint:
    """How long the open turn waits in silence.

    Args:
        settings: The server's threshold and patience.
        outbox: Where the wishes for judgements go.
        new_id: Makes branch ids.
        hears_words: Whether the engine recognises at a pause what was said.
    """

    def __init__(
        self, settings: TurnSettings, outbox: Outbox, new_id: NewId, *, hears_words: bool
    ) -> None:
        self.settings = settings
        self._outbox = outbox
        self._new_id = new_id
        self._hears_words = hears_words
        # The engine's model judges what it has heard; nobody can say what it would hear.
        self._asks_after: int | None = None
        if settings.scorer is not TurnScorerName.MODEL:
            self._asks_after = settings.judge_after_ms * SAMPLES_PER_MS
        self._eagerness: Eagerness | None = None
        self._pauses = 0
        self._in_pause = False
        self._asked = False
        self._evidence = Evidence()
        self._branch_id: str | None = None
        self._text = ""
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
        """More of the turn: float32[T], 16 kHz; kept, not copied.

        Of a pause no more is kept than there was when it was judged: people who think for
        seconds in mid-sentence are nothing the model has learnt, and the window holds more
        speech.
        """
        if self._eagerness is None or self._in_pause:
            return
        self._heard.append(samples)
        self._heard_samples += len(samples)
        while self._heard_samples - len(self._heard[0]) >= TURN_SAMPLES:
            self._heard_samples -= len(self._heard.popleft())

    @property
    def is_asked(self) -> bool:
        """Whether a silence is being judged, or was."""
        return self._asked

    def silent(self, silence_samples: int) -> None:
        """Nobody has spoken in the open turn for so long: ask whether that was all, once."""
        if self._asks_after is not None and silence_samples >= self._asks_after:
            self._ask(silence_samples)

    def pause(self, silence_samples: int) -> None:
        """The speaker paused, after so much silence."""
        if self._eagerness is None:
            return
        self._ask(silence_samples)
        self._in_pause = True
        if self._hears_words:
            self._text = ""
            self._branch_id = self._new_id("branch")
            self._outbox.put(StartBranch(self._branch_id, BranchPurpose.JUDGEMENT))

    def _ask(self, silence_samples: int) -> None:
        if self._asked or self._eagerness is None:
            return
        self._pauses += 1
        self._asked = True
        self._evidence = Evidence()
        heard = np.concatenate(self._heard)[-TURN_SAMPLES:]
        self._outbox.put(ScoreTurn(self._pauses, as_in_pause(heard, silence_samples)))

    def resume(self) -> None:
        """The speaker went on: what is said of the pause counts no more."""
        self._in_pause = False
        if self._asked:
            self._asked = False
            if self._evidence.sound is None:
                self._outbox.put(DropScore(self._pauses))
        if self._branch_id is not None:
            self._outbox.put(DropBranch(self._branch_id))
            self._branch_id = None

    def over(self) -> None:
        """The turn has ended or is forgotten."""
        self.resume()
        self._heard.clear()
        self._heard_samples = 0

    def receive_score(self, number: int, probability: float) -> int | None:
        """Take what the sound of pause `number` says; gives `silence_needed_ms`."""
        if not self._asked or number != self._pauses:
            return None
        self._evidence.sound = probability
        return self.silence_needed_ms

    def receive_words(self, event: TokenEvent) -> bool:
        """Take what a branch gave; False when it is none of ours."""
        if event.branch_id != self._branch_id:
            return False
        match event:
            case BranchText(text=text):
                self._text += text
            case BranchEnded():
                self._branch_id = None
                self._evidence.words = self._text
            case _:  # without words the sound alone counts
                self._branch_id = None
        return True

    @property
    def silence_needed_ms(self) -> int | None:
        """Silence that ends the turn in this pause; None when nothing is known of it."""
        if not self._asked or self._eagerness is None:
            return None
        probability = probability_of_end(self._evidence, self.settings.eot_threshold)
        if probability is None:
            return None
        return silence_needed_ms(probability, self._eagerness, self.settings)
