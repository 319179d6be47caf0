"""The page against the real server: speech goes in, its words and an answer come out."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.helpers.browser import chromium, collect_complaints, take_picture
from tests.helpers.server import RunningServer
from tests.helpers.speech import Recording, recording
from tests.helpers.wer import word_errors

pytestmark = [
    pytest.mark.browser,
    pytest.mark.models,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_a_spoken_turn_is_heard_and_answered_and_so_is_a_typed_one(
    real_server: RunningServer, transport: str
) -> None:
    clip = recording(at_least_s=2.5, at_most_s=4.0)  # short: one turn, without a pause in it
    async with chromium(clip.path) as browser:
        page = await browser.new_page(viewport={"width": 960, "height": 600})
        complaints = collect_complaints(page)
        await page.goto(f"{real_server.url}/?transport={transport}")
        await _speak(page, clip)
        await _type(page)
        await take_picture(page, f"page-real-{transport}")
        assert complaints == []


async def _speak(page: Page, clip: Recording) -> None:
    # The recording begins with the microphone: what is said before that is lost.
    await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Start talking").click()
    latency = page.get_by_text("after you stopped speaking")
    await expect(latency).to_be_visible()
    # Its words may come after an answer that was begun at the pause.
    words = page.locator(".entry.user .text")
    await expect(words.last).to_have_text(re.compile(r"\w"))
    heard = await words.all_text_contents()
    assert word_errors(clip.text, " ".join(heard)).rate <= 0.35
    assert (await page.locator(".entry.agent .text").text_content() or "").strip()
    await expect(page.get_by_role("status")).to_have_text("Listening")
    await page.get_by_role("button", name="Stop the microphone").click()


async def _type(page: Page) -> None:
    answers = page.locator(".entry.agent[data-status=done]")
    before = await answers.count()
    await page.get_by_role("textbox").fill("What is the capital of France?")
    await page.get_by_role("textbox").press("Enter")
    await expect(answers).to_have_count(before + 1)
    assert (await answers.last.locator(".text").text_content() or "").strip()
