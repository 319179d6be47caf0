"""Plays audio into a session as a microphone would: small pieces, in real time.

A piece leaves when a microphone would have recorded its last sample. Due times are counted
from the first piece, so that late wake-ups do not add up; a player that was held up catches
up at once, as a microphone's buffer does.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Awaitable, Callable

import numpy as np

from agent.audio.pcm import AudioFormat, Samples, encode

PIECE_S = 0.040


class Player:
    """Sends audio in pieces and remembers when each was sent."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        audio_format: AudioFormat,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Play through `send`.

        Args:
            send: Sends bytes of `audio_format`, e.g. `ClientSession.send_audio`.
            audio_format: How audio is coded.
            clock: Seconds, monotonic; for `sent_at`.
            sleep: Waits; seconds.
        """
        self._send = send
        self._format = audio_format
        self._clock = clock
        self._sleep = sleep
        self._piece_samples = round(PIECE_S * audio_format.rate_hz)
        self._due: float | None = None
        self._ends_samples: list[int] = []
        self._sent_at: list[float] = []

    @property
    def position_ms(self) -> float:
        """Milliseconds of audio sent so far."""
        return self._sent_samples * 1000 / self._format.rate_hz

    def sent_at(self, position_ms: float) -> float | None:
        """When the sample at `position_ms` was sent, by `clock`; None when it was not yet."""
        sample = position_ms * self._format.rate_hz / 1000
        piece = bisect.bisect_left(self._ends_samples, sample)
        return self._sent_at[piece] if piece < len(self._sent_at) else None

    async def play(self, samples: Samples, *, paced: bool) -> None:
        """Send float32[T] at the format's rate.

        Args:
            samples: Mono, in [-1, 1].
            paced: In real time; otherwise as fast as the server takes it.
        """
        for start in range(0, samples.size, self._piece_samples):
            piece = samples[start : start + self._piece_samples]
            if paced:
                await self._wait_for(piece.size / self._format.rate_hz)
            else:
                self._due = None
            await self._send(encode(piece, self._format.encoding))
            self._ends_samples.append(self._sent_samples + piece.size)
            self._sent_at.append(self._clock())

    async def play_silence(self, duration_s: float, *, paced: bool) -> None:
        """Send digital silence."""
        silence = np.zeros(round(duration_s * self._format.rate_hz), dtype=np.float32)
        await self.play(silence, paced=paced)

    @property
    def _sent_samples(self) -> int:
        return self._ends_samples[-1] if self._ends_samples else 0

    async def _wait_for(self, piece_s: float) -> None:
        now = self._clock()
        self._due = (now if self._due is None else self._due) + piece_s
        if self._due > now:
            await self._sleep(self._due - now)
