"""Scores pauses of all sessions, outside the event loop, never more than it can keep up with."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from agent.audio.pcm import Samples
from agent.metrics import Metrics
from agent.turns.scorers import TurnScorer

log = structlog.get_logger(__name__)

MAX_WAITING = 4
"""Pauses a thread that are being scored or wait for it: half a second of work on a slow core,
after which the fixed wait of most sessions would be over anyway."""


class TurnHub:
    """Has pauses scored on threads of its own.

    All methods belong to one event loop.

    Args:
        scorer: The model.
        metrics: Told what was scored, how long it took, and what was left out.
        threads: How many pauses are scored at a time.
    """

    def __init__(self, scorer: TurnScorer, metrics: Metrics, threads: int = 1) -> None:
        self._scorer = scorer
        self._metrics = metrics
        self._room = threads * MAX_WAITING
        self._waiting = 0
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="turns")
        self._closed = False

    async def score(self, samples: Samples) -> float | None:
        """How likely the speaker has finished; see `TurnScorer.score`.

        Cancelling takes a pause that has not been begun out of the queue. One that is being
        scored is scored to its end, for nobody.

        Args:
            samples: float32[T], mono, 16 kHz: the turn so far. Not written to afterwards.

        Returns:
            A probability, or None: there is too much to do, or the model failed.
        """
        if self._closed or self._waiting >= self._room:
            self._metrics.turn_scores.labels("skipped").inc()
            return None
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._waiting += 1
        try:
            probability = await loop.run_in_executor(self._executor, self._scorer.score, samples)
        except asyncio.CancelledError:
            self._metrics.turn_scores.labels("dropped").inc()
            raise
        except Exception:  # the boundary to the model: turns end without it too
            log.exception("a pause could not be scored")
            self._metrics.turn_scores.labels("failed").inc()
            return None
        finally:
            self._waiting -= 1
        self._metrics.turn_scores.labels("made").inc()
        self._metrics.turn_score_s.observe(loop.time() - began_s)
        return probability

    def close(self) -> None:
        """Free the threads; what waits is cancelled."""
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)
