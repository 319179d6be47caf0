"""ICE servers as pages and aiortc take them."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection
from pydantic import ValidationError

from agent.config import IceServer
from agent.gateway.ice import as_wire

STUN = IceServer(urls=("stun:stun.example.org:3478",))
FIXED = IceServer(urls=("turn:turn.example.org",), username="u", credential="c")
SECRET = IceServer(urls=("turns:turn.example.org?transport=tcp",), secret="s3", lifetime_s=600)


def test_what_is_fixed_is_passed_on():
    assert as_wire((STUN, FIXED), 0) == [
        {"urls": ["stun:stun.example.org:3478"]},
        {"urls": ["turn:turn.example.org"], "username": "u", "credential": "c"},
    ]


def test_a_secret_makes_credentials_that_expire_and_is_never_shown():
    (wire,) = as_wire((SECRET,), 1_000.7)
    assert wire["username"] == "1600:voice-agent"
    made = hmac.new(b"s3", wire["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(wire["credential"]) == made
    assert "s3" not in str(wire)


async def test_aiortc_takes_them():
    servers = [RTCIceServer(**one) for one in as_wire((STUN, FIXED, SECRET), 0)]
    peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
    peer.createDataChannel("any")
    await peer.close()


@pytest.mark.parametrize(
    ("server", "complaint"),
    [
        ({"urls": ()}, "at least 1"),
        ({"urls": ("http://example.org",)}, "pattern"),
        ({"urls": ("turn:example.org",)}, "needs username and credential, or secret"),
        ({"urls": ("turn:example.org",), "username": "u"}, "belong together"),
        (
            {"urls": ("turn:a",), "username": "u", "credential": "c", "secret": "s"},
            "either secret, or",
        ),
    ],
)
def test_what_no_browser_would_take_is_refused_at_the_start(server, complaint):
    with pytest.raises(ValidationError, match=complaint):
        IceServer(**server)
