"""What a browser makes of what the server says: of losses, and of ICE servers."""

from __future__ import annotations

import asyncio
import ctypes
import random

import pytest

from agent.audio import libopus
from agent.audio.rtp import RtpPacket
from agent.gateway import audio_path
from tests.helpers.browser import chromium
from tests.helpers.gateway import gateway
from tests.helpers.patience import PATIENCE_S
from tests.helpers.speech import recording

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

CALL = """async () => {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const peer = new RTCPeerConnection();
  peer.addTrack(stream.getTracks()[0]);
  peer.createDataChannel("oai-events");
  await peer.setLocalDescription(await peer.createOffer());
  await new Promise((resolve) => setTimeout(resolve, 500));
  const answer = await fetch("/v1/realtime/calls", {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: peer.localDescription.sdp,
  });
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}"""


async def test_loss_brings_a_copy_of_each_packet_in_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what our answer asks for, and by what our reports say."""
    has_copy = libopus._library().opus_packet_has_lbrr
    has_copy.argtypes = [ctypes.c_char_p, ctypes.c_int32]
    chance, read, copies = random.Random(1), audio_path.read_packet, asyncio.Event()

    def read_and_lose(data: bytes) -> RtpPacket | None:
        packet = read(data)
        if packet is not None and packet.payload and has_copy(packet.payload, len(packet.payload)):
            copies.set()
        return packet if chance.random() > 0.2 else None

    monkeypatch.setattr(audio_path, "read_packet", read_and_lose)
    async with gateway() as running, chromium(recording(at_least_s=6).path) as browser:
        page = await browser.new_page()
        await page.goto(running.url)
        await page.evaluate(CALL)
        async with asyncio.timeout(PATIENCE_S):
            await copies.wait()


KEEP_CONFIGURATION = """
  const set = RTCPeerConnection.prototype.setConfiguration;
  RTCPeerConnection.prototype.setConfiguration = function (configuration) {
    window.configured = configuration;
    return set.call(this, configuration);
  };
"""


async def test_the_page_uses_the_ice_servers_of_the_settings() -> None:
    urls = ["turn:127.0.0.1:9?transport=udp"]
    async with (
        gateway(ice_servers=({"urls": urls, "secret": "s"},)) as running,
        chromium(recording().path) as browser,
    ):
        page = await browser.new_page()
        await page.add_init_script(KEEP_CONFIGURATION)
        await page.goto(f"{running.url}/?transport=webrtc")
        async with asyncio.timeout(PATIENCE_S):
            while (configured := await page.evaluate("window.configured")) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        (used,) = configured["iceServers"]
        assert used["urls"] == urls
        assert used["username"].endswith(":voice-agent")
        assert used["credential"] != "s"
