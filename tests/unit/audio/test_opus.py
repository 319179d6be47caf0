"""Opus packets become the audio they were made from, gaps included."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio.opus import CONCEALED_S, MOST_FILLED_S, OpusIntake
from agent.audio.rtp import RTP_CLOCK_HZ, AudioPacket, pack
from agent.errors import InvalidEvent
from tests.helpers.opus import COPIES, encoded
from tests.helpers.speech import recording

FRAME = 960


def tone(seconds: float, hz: float = 300.0) -> np.ndarray:
    at = np.arange(int(seconds * RTP_CLOCK_HZ)) / RTP_CLOCK_HZ
    return (0.3 * np.sin(2 * np.pi * hz * at)).astype(np.float32)


PACKETS = encoded(tone(2.0))


def heard(intake: OpusIntake, packets: list[AudioPacket]) -> np.ndarray:
    return np.concatenate([*(intake.push(pack([one])) for one in packets), intake.flush()])


def numbered(packets: list[bytes]) -> list[AudioPacket]:
    return [AudioPacket(n, n * FRAME, packet) for n, packet in enumerate(packets)]


def test_a_tone_is_heard_as_long_and_as_loud_as_it_was():
    samples = heard(OpusIntake(), numbered(PACKETS))
    assert samples.size == 2 * 16_000
    assert np.sqrt(np.mean(samples[1600:] ** 2)) == pytest.approx(0.3 / 2**0.5, rel=0.05)


@settings(max_examples=30)
@given(st.sets(st.integers(1, len(PACKETS) - 2), max_size=60))
def test_losses_never_move_the_clock(lost):
    packets = [one for one in numbered(PACKETS) if one.sequence not in lost]
    samples = heard(OpusIntake(), packets)
    assert samples.size == 2 * 16_000
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1.0


def test_a_single_lost_packet_is_concealed_not_silent():
    packets = numbered(PACKETS)
    del packets[50]
    samples = heard(OpusIntake(), packets)
    hole = samples[16_000 + 80 : 16_000 + 240]
    assert np.sqrt(np.mean(hole**2)) > 0.05


def test_what_was_lost_is_taken_from_the_copy_in_the_packet_after_it():
    speech = soxr.resample(recording(at_least_s=2.5).samples(), 16_000, RTP_CLOCK_HZ)
    packets = numbered(encoded(speech, **COPIES))
    whole = heard(OpusIntake(), packets)
    lost = range(20, len(packets) - 20, 10)
    some = heard(OpusIntake(), [one for one in packets if one.sequence not in lost])
    holes = np.concatenate([np.arange(n * 320, (n + 1) * 320) for n in lost])
    error = np.sum((some[holes] - whole[holes]) ** 2) / np.sum(whole[holes] ** 2)
    plain = numbered(encoded(speech))
    whole = heard(OpusIntake(), plain)
    made_up = heard(OpusIntake(), [one for one in plain if one.sequence not in lost])
    error_made_up = np.sum((made_up[holes] - whole[holes]) ** 2) / np.sum(whole[holes] ** 2)
    assert error < 0.3 < error_made_up


def test_a_long_loss_fades_to_silence():
    packets = numbered(PACKETS)
    del packets[20:60]
    samples = heard(OpusIntake(), packets)
    silent = samples[int((0.4 + CONCEALED_S + 0.06) * 16_000) : int(1.15 * 16_000)]
    assert np.abs(silent).max() < 1e-3
    assert samples.size == 2 * 16_000


def test_of_a_burst_only_the_edges_are_made_up():
    packets = numbered(PACKETS)
    del packets[50:54]
    samples = heard(OpusIntake(), packets)
    first, *between, last = samples[50 * 320 : 54 * 320].reshape(4, 320)
    assert np.abs(first).max() > 0.05
    assert np.abs(last).max() > 0.05
    assert not np.any(between)
    assert samples.size == 2 * 16_000


def test_what_the_sender_left_out_is_silence():
    packets = [
        AudioPacket(n, (n + (40 if n >= 50 else 0)) * FRAME, one) for n, one in enumerate(PACKETS)
    ]
    samples = heard(OpusIntake(), packets)
    assert samples.size == pytest.approx(2.8 * 16_000)
    assert np.abs(samples[int(1.05 * 16_000) : int(1.75 * 16_000)]).max() < 1e-3


def test_a_pause_longer_than_a_turn_can_hold_is_not_made_up():
    away = int((MOST_FILLED_S + 1) * RTP_CLOCK_HZ)
    packets = [
        AudioPacket(n, n * FRAME + (away if n >= 50 else 0), one) for n, one in enumerate(PACKETS)
    ]
    assert heard(OpusIntake(), packets).size == 2 * 16_000


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_rubbish_is_survived(payloads):
    intake = OpusIntake()
    heard(intake, [AudioPacket(n, n * FRAME, payload) for n, payload in enumerate(payloads)])
    samples = intake.push(
        pack([AudioPacket(n + 90, (n + 90) * FRAME, one) for n, one in enumerate(PACKETS)])
    )
    assert samples.size >= 31_000


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
def test_shares_hold_whole_packets_of_about_that_much(frame_ms):
    data = memoryview(
        pack([AudioPacket(n, 0, one) for n, one in enumerate(encoded(tone(1.2), frame_ms))])
    )
    intake, pieces = OpusIntake(), []
    assert intake.seconds(bytes(data)) == pytest.approx(1.2)
    while data:
        size = intake.share_bytes(data, 16_000 // 4)
        pieces.append(intake.seconds(bytes(data[:size])))
        data = data[size:]
    assert sum(pieces) == pytest.approx(1.2)
    assert max(pieces) <= 0.25 + frame_ms / 1000


def test_audio_in_events_is_refused():
    with pytest.raises(InvalidEvent, match="media track"):
        OpusIntake().check(b"", in_event=True)
