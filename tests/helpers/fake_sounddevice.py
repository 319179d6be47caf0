"""A stand-in for the module `sounddevice`: microphones without PortAudio."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import numpy as np


def device(name: str, index: int, channels: int, rate_hz: float) -> dict[str, Any]:
    return {
        "name": name,
        "index": index,
        "max_input_channels": channels,
        "default_samplerate": rate_hz,
    }


BUILT_IN = device("Built-in", 0, 2, 44_100.0)
HEADSET = device("USB Headset", 1, 1, 48_000.0)
SPEAKERS = device("Speakers", 2, 0, 48_000.0)


class PortAudioError(Exception):
    pass


class SoundDevice(ModuleType):
    """As much of the module `sounddevice` as is used."""

    PortAudioError = PortAudioError

    def __init__(self, *devices: dict[str, Any]) -> None:
        super().__init__("sounddevice")
        self.devices = devices
        self.streams: list[FakeStream] = []
        self.busy = False

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.devices
        inputs = [one for one in self.devices if one["max_input_channels"]]
        if device is None:
            if not inputs:
                raise PortAudioError("Error querying device -1")
            return inputs[0]
        for one in inputs:
            if device in {one["index"], one["name"]} or str(device) in one["name"]:
                return one
        raise ValueError(f"No input device matching {device!r}")

    def InputStream(self, **options: Any) -> Any:  # noqa: N802  # the name of the real one
        if self.busy:
            raise PortAudioError("Device unavailable")
        stream = FakeStream(options)
        self.streams.append(stream)
        return stream


class FakeStream:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.open = False

    def __enter__(self) -> FakeStream:
        self.open = True
        return self

    def __exit__(self, *exception: object) -> None:
        self.open = False

    async def record(self, *values: float) -> None:
        """Call back from another thread, as PortAudio does."""
        for value in values:
            block = np.full((self.options["blocksize"], 1), value, dtype=np.float32)
            arguments = (block, len(block), None, None)
            await asyncio.to_thread(self.options["callback"], *arguments)
