"""The microphone, with a stand-in for PortAudio."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from agent.client.microphone import Microphone, open_microphone
from agent.errors import ConfigError
from tests.helpers.fake_sounddevice import BUILT_IN, HEADSET, SPEAKERS, SoundDevice


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> SoundDevice:
    module = SoundDevice(BUILT_IN, HEADSET, SPEAKERS)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


async def test_blocks_arrive_in_order_at_the_devices_rate(sounddevice: SoundDevice) -> None:
    with open_microphone() as microphone:
        (stream,) = sounddevice.streams
        assert stream.open
        assert (microphone.name, microphone.rate_hz) == ("Built-in", 44_100)
        await stream.record(0.25, -0.5)
        blocks = aiter(microphone)
        first, second = await anext(blocks), await anext(blocks)
    assert not stream.open
    assert first.dtype == np.float32
    assert first.shape == (round(0.04 * 44_100),)
    assert (first[0], second[0]) == (0.25, -0.5)


@pytest.mark.parametrize("device", ["1", "USB", "USB Headset"])
async def test_a_device_by_number_or_part_of_its_name(
    sounddevice: SoundDevice, device: str
) -> None:
    with open_microphone(device) as microphone:
        assert microphone.name == "USB Headset"
        assert sounddevice.streams[0].options["device"] == 1
        assert sounddevice.streams[0].options["samplerate"] == 48_000


async def test_a_consumer_that_is_held_up_loses_the_oldest_sound() -> None:
    microphone = Microphone("test", 16_000)
    for number in range(300):
        microphone.put(np.array([number], dtype=np.float32))
    assert microphone.dropped_blocks == 50
    assert (await anext(aiter(microphone)))[0] == 50


async def test_an_unknown_device_gets_the_list(sounddevice: SoundDevice) -> None:
    with (
        pytest.raises(ConfigError, match=r"'Radio'; there are: Built-in, USB Headset\."),
        open_microphone("Radio"),
    ):
        pass


async def test_no_microphone_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", SoundDevice(SPEAKERS))
    with pytest.raises(ConfigError, match="voice-agent say"), open_microphone():
        pass


async def test_a_microphone_in_use(sounddevice: SoundDevice) -> None:
    sounddevice.busy = True
    with pytest.raises(ConfigError, match="cannot be used: Device unavailable"), open_microphone():
        pass


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ImportError("sounddevice"), "voice-agent\\[mic\\]"),
        (OSError("PortAudio library not found"), "apt install libportaudio2"),
    ],
)
async def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    class Broken:
        def find_spec(self, name: str, *rest: object) -> None:
            if name == "sounddevice":
                raise error

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ConfigError, match=advice), open_microphone():
        pass
