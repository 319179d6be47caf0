"""The microphone of this machine, through PortAudio (extra `mic`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.audio.pcm import Samples
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK_S = 0.040
# A consumer that is held up for longer loses the oldest sound instead of memory.
_MAX_WAITING_BLOCKS = 250


class Microphone:
    """Blocks of samples as they are recorded; made by `open_microphone`.

    Attributes:
        name: The device, for people.
        rate_hz: Samples a second.
        dropped_blocks: Blocks of 40 ms lost because nobody took them in time.
    """

    def __init__(self, name: str, rate_hz: int) -> None:
        self.name = name
        self.rate_hz = rate_hz
        self.dropped_blocks = 0
        self._blocks: asyncio.Queue[Samples] = asyncio.Queue(_MAX_WAITING_BLOCKS)

    def put(self, block: Samples) -> None:
        """Take float32[T] from the recording; called on the event loop's thread."""
        if self._blocks.full():
            self._blocks.get_nowait()
            self.dropped_blocks += 1
        self._blocks.put_nowait(block)

    async def __aiter__(self) -> AsyncIterator[Samples]:
        while True:
            yield await self._blocks.get()


@contextmanager
def open_microphone(device: str | None = None) -> Iterator[Microphone]:
    """Record from a microphone while the block runs; needs a running event loop.

    Args:
        device: Number or part of the name of the device; the system's default when None.

    Raises:
        ConfigError: The package, PortAudio or the microphone is missing, and how to get it.
    """
    sounddevice = load_sounddevice()
    loop = asyncio.get_running_loop()
    try:
        info = find_input(sounddevice, device)
        rate_hz = round(info["default_samplerate"])
        microphone = Microphone(info["name"], rate_hz)

        def on_block(block: Any, frames: int, time: object, status: object) -> None:
            """Runs on PortAudio's own thread."""
            del frames, time, status
            loop.call_soon_threadsafe(microphone.put, np.array(block[:, 0], dtype=np.float32))

        stream = sounddevice.InputStream(
            device=info["index"],
            samplerate=rate_hz,
            channels=1,
            dtype="float32",
            blocksize=round(_BLOCK_S * rate_hz),
            callback=on_block,
        )
        with stream:
            yield microphone
    except sounddevice.PortAudioError as error:
        raise ConfigError(f"The microphone cannot be used: {error}.") from error


def load_sounddevice() -> ModuleType:
    """The module `sounddevice`.

    Raises:
        ConfigError: It, or the library PortAudio that it needs, is not installed.
    """
    try:
        import sounddevice  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ConfigError(
            "The package sounddevice is missing; get it with: pip install 'voice-agent[mic]'"
        ) from error
    except OSError as error:
        raise ConfigError(
            "The library PortAudio is missing; get it with: apt install libportaudio2"
        ) from error
    module: ModuleType = sounddevice
    return module


def find_input(sounddevice: ModuleType, device: str | None) -> dict[str, Any]:
    """What PortAudio knows about a microphone.

    Raises:
        ConfigError: There is none, or none of that name.
    """
    wanted = int(device) if device is not None and device.isdecimal() else device
    try:
        info: dict[str, Any] = sounddevice.query_devices(wanted, kind="input")
    except (ValueError, sounddevice.PortAudioError) as error:
        inputs = [one["name"] for one in sounddevice.query_devices() if one["max_input_channels"]]
        if not inputs:
            raise ConfigError(
                "No microphone was found. Plug one in, or play a recording with "
                "`voice-agent say FILE`."
            ) from error
        raise ConfigError(
            f"There is no microphone {device!r}; there are: {', '.join(inputs)}."
        ) from error
    return info
