"""Judges pauses for the offline benchmark: by their sound, and by the words before them.

Models are slow and dialogues are always the same, so what they said may be kept in a file:
then other thresholds and waits are tried in seconds.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from agent.audio.pcm import Samples
from agent.config import Settings
from agent.models.store import ModelStore
from agent.turns.scorers import SmartTurnScorer, can_run, smart_turn_path


class Judge:
    """Smart Turn and the embedded engine's recogniser, each loaded when it is first asked.

    Args:
        settings: The server's: which scorer it has.
        words: Whether pauses are judged by words as well, as with an engine that hears them.
        kept: A file of what was said before; None to keep nothing.
    """

    def __init__(
        self, settings: Settings, *, words: bool = False, kept: Path | None = None
    ) -> None:
        self.hears_words = words
        self._has_scorer = can_run(settings.turns.scorer)
        self._kept_path = kept
        self._kept: dict[str, Any] = {}
        if kept is not None and kept.is_file():
            self._kept = json.loads(kept.read_text("utf-8"))
        self._scorer: SmartTurnScorer | None = None
        self._recogniser: Any = None

    def sound(self, samples: Samples) -> float | None:
        """How likely the sound of a turn makes its end; None where nothing says it."""
        if not self._has_scorer:
            return None
        key = _key("sound", samples)
        if key not in self._kept:
            self._scorer = self._scorer or SmartTurnScorer(smart_turn_path())
            self._kept[key] = self._scorer.score(samples)
        return float(self._kept[key])

    def words(self, samples: Samples) -> str:
        """What was said in a clip."""
        key = _key("words", samples)
        if key not in self._kept:
            if self._recogniser is None:
                from agent.engine.small.recogniser import Recogniser  # noqa: PLC0415  # slow

                folder = ModelStore().ensure("whisper-base", lambda doing, _: print(doing))
                self._recogniser = Recogniser(folder, threads=1)
            self._kept[key] = self._recogniser.hear(samples).text
        return str(self._kept[key])

    def keep(self) -> None:
        """Write down what was said, for the next run."""
        if self._kept_path is not None:
            self._kept_path.write_text(json.dumps(self._kept), encoding="utf-8")


def _key(kind: str, samples: Samples) -> str:
    return f"{kind} {hashlib.sha256(samples.tobytes()).hexdigest()}"
