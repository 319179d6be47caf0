"""A bad offer is told what it lacks; ours is an answer that asks for what we use."""

from __future__ import annotations

import re

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidEvent
from agent.gateway.offer import (
    MOST_NAMES,
    candidates_apart,
    check_offer,
    payload_types,
    with_opus_parameters,
)


async def offer(*kinds: str, channel: bool = True, direction: str = "sendonly") -> str:
    """What aiortc offers with such transceivers."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        connection.addTransceiver(kind, direction=direction)
    if channel:
        connection.createDataChannel("oai-events")
    await connection.setLocalDescription(await connection.createOffer())
    sdp: str = connection.localDescription.sdp
    await connection.close()
    return sdp


@pytest.mark.parametrize("direction", ["sendonly", "sendrecv"])
@pytest.mark.parametrize("kinds", [("audio",), ("audio", "video"), ("video", "audio")])
async def test_a_microphone_and_a_data_channel_will_do(kinds, direction):
    check_offer(await offer(*kinds, direction=direction))


async def test_what_a_browser_leaves_unsaid_is_sendrecv():
    check_offer((await offer("audio")).replace("a=sendonly\r\n", ""))


@pytest.mark.parametrize(
    ("kinds", "options", "complaint"),
    [
        (("audio",), {"channel": False}, "no data channel"),
        ((), {}, "no audio"),
        (("video",), {}, "no audio"),
        (("audio",), {"direction": "recvonly"}, "audio is recvonly"),
        (("audio", "audio"), {}, "2 audio tracks"),
    ],
)
async def test_what_is_missing_is_said(kinds, options, complaint):
    with pytest.raises(InvalidEvent, match=complaint) as refused:
        check_offer(await offer(*kinds, **options))
    assert (refused.value.code, refused.value.param) == ("invalid_offer", "sdp")


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        (r"a=rtpmap:96 opus/48000/2\r\n", "not offered as Opus"),
        (r"a=fingerprint:[^\r]*\r\n", "a=fingerprint"),
        (r"a=ice-pwd:[^\r]*\r\n", "a=ice-pwd"),
    ],
)
async def test_lines_that_are_missing_are_named(pattern, complaint):
    with pytest.raises(InvalidEvent, match=complaint):
        check_offer(re.sub(pattern, "", await offer("audio")))


@given(st.one_of(st.text(max_size=200), st.text("v=0m audio\r\n:9/", max_size=200)))
def test_rubbish_is_refused_and_nothing_worse(text):
    with pytest.raises(InvalidEvent):
        check_offer(text)


async def test_the_answer_asks_for_copies():
    answer = with_opus_parameters(await offer("audio"))
    lines = answer.split("\r\n")
    at = lines.index("a=rtpmap:96 opus/48000/2")
    assert lines[at + 1].startswith("a=fmtp:96 ")
    assert "useinbandfec=1" in lines[at + 1]
    assert payload_types(answer) == {96}
    check_offer(answer)


NAMED = "a=candidate:0 {component} UDP 2122187007 2c6d8b7c-cf74-4241.local {port} typ host"


async def test_names_and_the_word_that_nothing_follows_are_taken_apart():
    plain = await offer("audio")
    assert "a=end-of-candidates" in plain
    shown = [line for line in plain.splitlines() if line.startswith("a=candidate")]
    names = "\r\n".join(NAMED.format(component=n, port=5000 + n) for n in (1, 2))
    rest, hidden = candidates_apart(
        plain.replace("a=end-of-candidates", names + "\r\na=end-of-candidates")
    )
    assert "end-of-candidates" not in rest
    assert ".local" not in rest
    assert [line for line in rest.splitlines() if line.startswith("a=candidate")] == shown
    assert rest == plain.replace("a=end-of-candidates\r\n", "")
    # Of RTP alone: RTCP has no address of its own here. One for each part of the offer.
    assert [(one.ip, one.port, one.sdpMLineIndex) for one in hidden] == [
        ("2c6d8b7c-cf74-4241.local", 5001, index) for index in (0, 1)
    ]


async def test_not_every_name_that_is_offered_is_asked_for():
    many = "\r\n".join(NAMED.format(component=1, port=port) for port in range(1, 1000))
    crowded = (await offer("audio")).replace("a=end-of-candidates", many)
    rest, hidden = candidates_apart(crowded)
    assert ".local" not in rest
    assert len(hidden) == MOST_NAMES
