"""Packets in any order come out in order."""

from __future__ import annotations

import itertools

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.rtp import (
    MAX_WAITING,
    PATIENCE_S,
    AudioPacket,
    ReorderBuffer,
    pack,
    read_packet,
    unpack,
)

STEP_S = 0.02


def sent(first: int, count: int) -> list[tuple[int, int, bytes]]:
    """Packets of 20 ms as RTP numbers them."""
    return [
        ((first + index) % 2**16, (first * 7 + index * 960) % 2**32, b"%d" % index)
        for index in range(count)
    ]


def delivered(buffer: ReorderBuffer, arrivals: list[tuple[float, tuple[int, int, bytes]]]):
    """All that comes out, looking at the clock every 10 ms as the transport does."""
    out, now_s = [], 0.0
    for at_s, (sequence, timestamp, payload) in sorted(arrivals):
        while now_s < at_s:
            out += buffer.take(now_s)
            now_s += 0.01
        out += buffer.push(1, sequence, timestamp, payload, at_s)
    return out + buffer.take(now_s + 1)


@given(
    first=st.integers(0, 2**16 - 1),
    delays=st.lists(st.one_of(st.none(), st.floats(0, 0.05)), min_size=2, max_size=120),
    copies=st.sets(st.integers(0, 119)),
)
def test_jitter_and_loss_leave_order_and_whatever_arrived(first, delays, copies):
    packets = sent(first, len(delays))
    delays[0] = 0.0  # what comes before the first packet that came is of no use
    arrivals = [
        (index * STEP_S + delay, packet)
        for index, (packet, delay) in enumerate(zip(packets, delays, strict=True))
        if delay is not None
        for _ in range(2 if index in copies else 1)
    ]
    buffer = ReorderBuffer()
    out = delivered(buffer, arrivals)
    expected = [packet for packet, delay in zip(packets, delays, strict=True) if delay is not None]
    assert [one.payload for one in out] == [payload for _, _, payload in expected]
    numbers = [one.sequence for one in out]
    times = [one.timestamp for one in out]
    assert [b - a for a, b in itertools.pairwise(times)] == [
        960 * (b - a) for a, b in itertools.pairwise(numbers)
    ]
    lost_between = numbers[-1] - numbers[0] + 1 - len(numbers)
    assert buffer.lost == lost_between


def test_nothing_waits_without_a_hole():
    buffer = ReorderBuffer()
    for index, (sequence, timestamp, payload) in enumerate(sent(65_530, 20)):
        assert len(buffer.push(1, sequence, timestamp, payload, index * STEP_S)) == 1
        assert buffer.deadline_s is None


def test_a_hole_is_waited_for_and_then_left():
    buffer, packets = ReorderBuffer(), sent(10, 4)
    buffer.push(1, *packets[0], 0.0)
    assert buffer.push(1, *packets[2], 0.04) == []
    assert buffer.deadline_s == pytest.approx(0.04 + PATIENCE_S)
    assert buffer.take(0.1) == []
    assert [one.payload for one in buffer.take(0.04 + PATIENCE_S)] == [b"2"]
    assert buffer.push(1, *packets[1], 0.3) == []  # too late
    assert [one.payload for one in buffer.push(1, *packets[3], 0.3)] == [b"3"]
    assert buffer.lost == 1


def test_another_source_begins_anew_and_loses_nothing_that_waited():
    buffer = ReorderBuffer()
    old, new = sent(10, 3), sent(50_000, 2)
    buffer.push(1, *old[0], 0.0)
    buffer.push(1, *old[2], 0.01)
    out = buffer.push(2, *new[0], 0.02)
    assert [one.payload for one in out] == [b"2", b"0"]
    assert out[0].sequence < out[1].sequence
    assert [one.payload for one in buffer.push(2, *new[1], 0.04)] == [b"1"]


def test_a_hole_does_not_hold_back_more_than_a_network_would():
    buffer = ReorderBuffer(patience_s=1e9)
    packets = sent(0, MAX_WAITING + 3)
    out = buffer.push(1, *packets[0], 0.0)
    for packet in packets[2:]:
        out += buffer.push(1, *packet, 0.0)
    assert [one.payload for one in out][:2] == [b"0", b"2"]
    assert len(out) >= MAX_WAITING


@given(
    st.lists(
        st.builds(
            AudioPacket,
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=300),
        )
    )
)
def test_packets_survive_packing(packets):
    assert list(unpack(pack(packets))) == packets
    assert list(unpack(b"".join(pack([one]) for one in packets))) == packets


@given(
    sequence=st.integers(0, 2**16 - 1),
    timestamp=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=100),
    sources=st.lists(st.integers(0, 2**32 - 1), max_size=15),
    padding=st.integers(0, 20),
    mid=st.one_of(st.none(), st.text("abc0", min_size=1, max_size=8)),
)
def test_packets_are_read_as_aiortc_writes_them(
    sequence, timestamp, payload, sources, padding, mid
):
    extensions = HeaderExtensionsMap()
    extensions.configure(
        RTCRtpParameters(
            headerExtensions=[
                RTCRtpHeaderExtensionParameters(3, "urn:ietf:params:rtp-hdrext:sdes:mid")
            ]
        )
    )
    packet = RtpPacket(111, 1, sequence, timestamp, 77, payload)
    packet.csrc, packet.padding_size = sources, padding
    packet.extensions.mid = mid
    read = read_packet(packet.serialize(extensions))
    assert read == (111, sequence, timestamp, 77, payload)


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda data: b"\xb1o" + data)))
def test_rubbish_is_no_packet_or_a_short_one(data):
    read = read_packet(data)
    assert read is None or len(read.payload) <= len(data) - 12


@given(lost=st.sets(st.integers(1, 98)))
def test_what_came_and_what_was_lost_is_all_there_was(lost):
    buffer = ReorderBuffer()
    arrivals = [
        (index * STEP_S, packet)
        for index, packet in enumerate(sent(65_500, 100))
        if index not in lost
    ]
    delivered(buffer, arrivals)
    assert (buffer.given, buffer.lost) == (100 - len(lost), len(lost))
    assert buffer.newest % 2**16 == (65_500 + 99) % 2**16
    assert buffer.source == 1
