"""libopus itself: the library that PyAV brings or the system has.

FFmpeg's wrapper around it can neither decode a packet's redundant copy of the one before (in-band
FEC) nor be told that a packet is missing, and gives 48 kHz that must be resampled. libopus decodes
to 16 kHz directly. Its functions are called without the interpreter's lock.

Source: https://opus-codec.org/docs/opus_api-1.5/group__opus__decoder.html
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples

MOST_SAMPLES = SAMPLE_RATE_HZ * 120 // 1000
"""The longest packet: 120 ms."""

STEP_SAMPLES = SAMPLE_RATE_HZ // 400
"""What is made up for a loss is a multiple of 2.5 ms."""


class LibraryMissing(ImportError):
    """There is no libopus here."""


class OpusDecoder:
    """One stream's packets to float32 at 16 kHz, mono.

    Not for use from several threads at once.

    Attributes:
        failures: Calls that libopus refused: a damaged packet, or a gap it could not fill.

    Raises:
        LibraryMissing: Neither PyAV nor the system has a libopus.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._library = _library()
        error = ctypes.c_int()
        # Freed with this object; the library only asks for memory here.
        self._state = self._library.opus_decoder_create(SAMPLE_RATE_HZ, 1, ctypes.byref(error))
        if not self._state:
            raise MemoryError(f"no decoder: {error.value}")

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.opus_decoder_destroy(self._state)

    def decode(self, payload: bytes) -> Samples | None:
        """float32[T] of one packet, T up to 1920; None where it is damaged."""
        return self._run(payload, MOST_SAMPLES, fec=0)

    def conceal(self, count: int) -> Samples:
        """float32[count] in place of what was lost; what is beyond 2.5 ms steps is silent."""
        return self._made(None, count, fec=0)

    def recover(self, next_payload: bytes, count: int) -> Samples:
        """What was lost right before a packet, float32[count] as `conceal` gives it.

        Its end is taken from the packet, where that holds a copy of what came before it; the rest
        is made up. The packet is to be decoded after this.
        """
        return self._made(next_payload, count, fec=1)

    def _made(self, payload: bytes | None, count: int, *, fec: int) -> Samples:
        """float32[count]: silence where libopus makes nothing, whether it cannot or may not."""
        filled = np.zeros(count, np.float32)
        whole = count - count % STEP_SAMPLES
        if whole:  # it refuses to make nothing
            made = self._run(payload, whole, fec=fec)
            if made is not None:
                filled[: made.size] = made
        return filled

    def _run(self, payload: bytes | None, most: int, *, fec: int) -> Samples | None:
        samples = np.empty(most, np.float32)
        size = len(payload) if payload is not None else 0
        count = self._library.opus_decode_float(
            self._state, payload, size, samples.ctypes.data, most, fec
        )
        if count < 0:
            self.failures += 1
            return None
        return samples[:count]


def is_here() -> bool:
    """Whether there is a libopus to use."""
    try:
        _library()
    except LibraryMissing:
        return False
    return True


@cache
def _library() -> Any:
    """libopus with the types of the functions that are used."""
    library: Any = None
    for name in _candidates():
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if hasattr(library, "opus_decode_float"):
            break
    else:
        raise LibraryMissing("there is no libopus; install voice-agent[webrtc], or libopus0")
    library.opus_decoder_create.restype = ctypes.c_void_p
    library.opus_decoder_create.argtypes = [
        ctypes.c_int32,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_int),
    ]
    library.opus_decoder_destroy.restype = None
    library.opus_decoder_destroy.argtypes = [ctypes.c_void_p]
    library.opus_decode_float.restype = ctypes.c_int
    library.opus_decode_float.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
    ]
    return library


def _candidates() -> list[str]:
    """Where it may be: beside PyAV (Linux, Windows, macOS), then wherever the system keeps it."""
    found: list[str] = []
    spec = importlib.util.find_spec("av")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        for folder in (package.parent / "av.libs", package / ".dylibs"):
            found += [str(path) for path in sorted(folder.glob("*opus*")) if "opus" in path.name]
    system = ctypes.util.find_library("opus")
    return [*found, *([system] if system else [])]
