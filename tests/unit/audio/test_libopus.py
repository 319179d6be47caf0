"""libopus is found, decodes, and fills what was lost with as much as is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio import libopus
from agent.audio.libopus import MOST_SAMPLES, STEP_SAMPLES, LibraryMissing, OpusDecoder
from tests.helpers.opus import COPIES, RATE_HZ, encoded

SPOKEN = (0.3 * np.sin(np.arange(RATE_HZ // 2) * 2 * np.pi * 200 / RATE_HZ)).astype(np.float32)
PACKETS = encoded(SPOKEN, **COPIES)


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
def test_a_packet_gives_its_length_at_16_khz(frame_ms):
    decoded = OpusDecoder().decode(encoded(SPOKEN, frame_ms)[0])
    assert decoded is not None
    assert (decoded.dtype, decoded.size) == (np.float32, 16 * frame_ms)


@given(st.integers(0, MOST_SAMPLES))
def test_what_is_made_up_is_as_long_as_was_asked_for(count):
    decoder = OpusDecoder()
    decoder.decode(PACKETS[0])
    for made in (decoder.conceal(count), decoder.recover(PACKETS[5], count)):
        assert (made.dtype, made.size) == (np.float32, count)
        assert not made[count - count % STEP_SAMPLES :].any()
    assert decoder.failures == 0
    decoded = decoder.decode(PACKETS[5])
    assert decoded is not None
    assert decoded.size == 320


@given(st.binary(min_size=1, max_size=200), st.integers(0, MOST_SAMPLES))
def test_rubbish_is_damaged_or_sound_and_nothing_worse(payload, count):
    decoder = OpusDecoder()
    decoded = decoder.decode(payload)
    assert decoded is None or decoded.size <= MOST_SAMPLES
    assert decoder.recover(payload, count).size == count
    assert OpusDecoder().decode(PACKETS[0]) is not None


def test_what_libopus_refuses_is_silence_as_long_as_was_asked_for_and_is_counted():
    decoder, damaged = OpusDecoder(), b"\xff"  # says that it holds many frames, and holds none
    for packet in PACKETS[:5]:
        assert decoder.decode(packet) is not None
    assert decoder.failures == 0
    assert decoder.decode(damaged) is None
    assert decoder.failures == 1
    made = decoder.recover(damaged, 330)
    assert made.size == 330
    assert not made.any()
    assert decoder.failures == 2
    assert decoder.conceal(330)[:320].any()  # and it goes on


def test_without_a_library_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(libopus, "_candidates", lambda: ["/no/such/libopus.so"])
    libopus._library.cache_clear()
    try:
        assert not libopus.is_here()
        with pytest.raises(LibraryMissing, match="no libopus"):
            OpusDecoder()
    finally:
        libopus._library.cache_clear()
