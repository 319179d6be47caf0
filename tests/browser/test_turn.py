"""The page behind a firewall: a spoken turn through a real TURN server, and no other way."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.helpers.browser import chromium, collect_complaints, take_picture
from tests.helpers.server import running_server
from tests.helpers.speech import recording
from tests.helpers.turn import turn_server
from tests.helpers.wer import word_errors

pytestmark = [
    pytest.mark.browser,
    pytest.mark.models,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
]

ONLY_RELAYED = """
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor() {
      super();
      window.peer = this;
    }
    setConfiguration(configuration) {
      super.setConfiguration({ ...configuration, iceTransportPolicy: "relay" });
    }
  };
"""
WAY = """async () => {
  const stats = [...(await window.peer.getStats()).values()];
  const transport = stats.find(({ type }) => type === "transport");
  const pair = stats.find(({ id }) => id === transport.selectedCandidatePairId);
  return stats.find(({ id }) => id === pair.localCandidateId).candidateType;
}"""


async def test_a_turn_is_heard_and_answered_through_a_relay() -> None:
    clip = recording(at_least_s=2.5, at_most_s=4.0)
    with turn_server() as turn, running_server(**turn.environment) as server:
        async with chromium(clip.path) as browser:
            page = await browser.new_page(viewport={"width": 960, "height": 600})
            complaints = collect_complaints(page)
            await page.add_init_script(ONLY_RELAYED)
            await page.goto(f"{server.url}/?transport=webrtc")
            await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
            assert await page.evaluate(WAY) == "relay"
            await page.get_by_role("button", name="Start talking").click()
            words = page.locator(".entry.user .text")
            answer = page.locator(".entry.agent[data-status=done] .text")
            await expect(answer.first).to_have_text(re.compile(r"\w"))
            await expect(words.last).to_have_text(re.compile(r"\w"))
            heard = " ".join(await words.all_text_contents())
            assert word_errors(clip.text, heard).rate <= 0.35
            await take_picture(page, "page-relayed")
            assert complaints == []
            # A WebSocket in its place would have been said.
            await expect(page.get_by_role("alert").filter(visible=True)).to_have_count(0)
            assert await page.evaluate(WAY) == "relay"
