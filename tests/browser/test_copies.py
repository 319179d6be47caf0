"""A browser sends a copy of each packet in the next one when it is told that some are lost.

It does so by what our answer asks for and by what our reports say; both are our own, and the bad
network's words are heard by it.
"""

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
from tests.helpers.speech import recording

pytestmark = [pytest.mark.browser, pytest.mark.slow]

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


async def test_loss_brings_copies(monkeypatch: pytest.MonkeyPatch) -> None:
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
        async with asyncio.timeout(20):
            await copies.wait()
