"""What a peer offers, looked at before anything is made of it; and our answer's last touch.

Source: RFC 8829 (JSEP), RFC 7587, section 7 (Opus in SDP).
"""

from __future__ import annotations

import re

from aiortc import RTCIceCandidate
from aiortc.sdp import MediaDescription, SessionDescription

from agent.errors import InvalidEvent

EVENTS_CHANNEL = "oai-events"
"""Label of the data channel that carries the protocol's events."""

OPUS_PARAMETERS = "minptime=10;useinbandfec=1;maxplaybackrate=16000;maxaveragebitrate=32000"
"""What we want of a sender: a copy of each packet in the next one, which a loss is filled from; and
no more than we use, wideband speech."""

MOST_NAMES = 16
"""Names that are asked for: of each network a machine is on, one or two."""

_SENDING = {"sendrecv", "sendonly", None}  # None: nothing is said of it, which means sendrecv
_HOLDS_UP = re.compile(
    r"^a=(?:end-of-candidates|candidate:\S+ \S+ \S+ \S+ \S+\.local [^\r\n]*)(?:\r?\n|$)",
    re.MULTILINE,
)
_OPUS = re.compile(r"^a=rtpmap:(\d+) opus/48000[^\r\n]*", re.MULTILINE | re.IGNORECASE)


def check_offer(sdp: str) -> None:
    """One microphone that speaks Opus, and a data channel.

    Raises:
        InvalidEvent: It is no such offer; the message says what is missing.
    """
    try:
        media = SessionDescription.parse(sdp).media
    except Exception as error:  # the parser raises whatever it trips over
        raise invalid_offer(
            f"the offer is not SDP that this server understands ({type(error).__name__})"
        ) from error
    if not media:
        raise invalid_offer("the offer has no media")
    for one in media:
        _check_can_connect(one)
    _check_audio([one for one in media if one.kind == "audio"])
    if not any(one.kind == "application" for one in media):
        raise invalid_offer(
            f"the offer has no data channel; call createDataChannel({EVENTS_CHANNEL!r}) before "
            "createOffer()"
        )


def invalid_offer(message: str) -> InvalidEvent:
    """The error for an offer that cannot be answered."""
    return InvalidEvent(
        f"{message}; send what createOffer() gives, with one microphone track and a data channel",
        code="invalid_offer",
        param="sdp",
    )


def candidates_apart(offer: str) -> tuple[str, list[RTCIceCandidate]]:
    """An offer without what would hold its answer up, and the addresses to be added beside it.

    Browsers hide their addresses behind names (`….local`) that mostly nobody else knows; asking for
    one takes a second. Firefox also says that no more will come (`a=end-of-candidates`): where none
    can be used aioice then gathers none of our own either. But the peer may well reach ours, and be
    known by that (RFC 8445, section 7.3.1.3).

    Source: draft-ietf-mmusic-mdns-ice-candidates.
    """
    hidden: list[RTCIceCandidate] = []
    for index, media in enumerate(SessionDescription.parse(offer).media):
        for candidate in media.ice_candidates:
            if candidate.ip.endswith(".local") and candidate.component == 1:
                candidate.sdpMLineIndex = index
                hidden.append(candidate)
    return _HOLDS_UP.sub("", offer), hidden[:MOST_NAMES]


def payload_types(answer: str) -> frozenset[int]:
    """What Opus is called in packets, by our answer."""
    return frozenset(int(number) for number in _OPUS.findall(answer))


def with_opus_parameters(answer: str) -> str:
    """Our answer with what we want of the sender's encoder; aiortc leaves it out."""
    return _OPUS.sub(rf"\g<0>\r\na=fmtp:\g<1> {OPUS_PARAMETERS}", answer)


def _check_audio(audio: list[MediaDescription]) -> None:
    if not audio:
        raise invalid_offer("the offer has no audio; add a microphone track before createOffer()")
    sending = [one for one in audio if one.direction in _SENDING]
    if not sending:
        raise invalid_offer(
            f"the offer's audio is {audio[0].direction}: nothing would be heard; add a microphone "
            "track, or a transceiver with direction sendonly"
        )
    if len(sending) > 1:
        raise invalid_offer(f"the offer has {len(sending)} audio tracks and may have one")
    codecs = [codec.mimeType.lower() for codec in sending[0].rtp.codecs]
    if "audio/opus" not in codecs:
        names = ", ".join(codecs)[:100] or "none"
        raise invalid_offer(f"the offer's audio is not offered as Opus (it is: {names})")


def _check_can_connect(media: MediaDescription) -> None:
    ice = media.ice
    if ice is None or not (ice.usernameFragment and ice.password):
        raise invalid_offer(f"the offer's {media.kind} has no a=ice-ufrag and a=ice-pwd")
    if media.dtls is None or not media.dtls.fingerprints:
        raise invalid_offer(f"the offer's {media.kind} has no a=fingerprint")
