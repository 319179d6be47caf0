"""Speaking over an answer of the embedded engine, with its real models."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from tests.helpers.browser import chromium, collect_complaints, take_picture
from tests.helpers.server import RunningServer, running_server
from tests.helpers.speech import recording
from tests.helpers.wer import word_errors

pytestmark = [
    pytest.mark.browser,
    pytest.mark.models,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
]

TURN_TIMEOUT_MS = 90_000
# The answer goes on for many times as long as it takes to begin to speak.
INSTRUCTIONS = "You are a novelist. You never finish a story: you always go on."
QUESTION = "Write a very long novel, with many chapters, about a ship and its crew."


@pytest.fixture(scope="module")
def talkative_server() -> Iterator[RunningServer]:
    """The server with the embedded engine and room for long answers, as it would answer first."""
    options = ("--temperature", "0")
    settings = {"VOICE_AGENT_INSTRUCTIONS": INSTRUCTIONS, "VOICE_AGENT_MAX_OUTPUT_TOKENS": "1500"}
    with running_server(*options, **settings) as server:
        yield server


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_speaking_during_an_answer_interrupts_it_and_is_heard(
    talkative_server: RunningServer, transport: str
) -> None:
    clip = recording(at_least_s=2.5, at_most_s=4.0)  # short: one turn, without a pause in it
    async with chromium(clip.path) as browser:
        page = await browser.new_page(viewport={"width": 960, "height": 720})
        complaints = collect_complaints(page)
        await page.goto(f"{talkative_server.url}/?transport={transport}")
        await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
        await _ask(page)
        await page.get_by_role("button", name="Start talking").click()

        cut = page.locator(".entry.agent[data-status=cut]").first
        await expect(cut).to_contain_text("Interrupted by you", timeout=TURN_TIMEOUT_MS)
        text = await cut.locator(".text").text_content()
        await expect(page.locator(".entry.agent").nth(1)).to_be_visible(timeout=TURN_TIMEOUT_MS)
        heard = page.locator(".entry.user .text")
        await expect(heard.last).to_have_text(re.compile(r"\w"), timeout=TURN_TIMEOUT_MS)
        question, *said = await heard.all_text_contents()
        assert question == QUESTION
        assert word_errors(clip.text, " ".join(said)).rate <= 0.35
        # Nothing of what was withheld came later.
        assert await cut.locator(".text").text_content() == text
        await take_picture(page, f"page-real-interrupted-{transport}")
        assert complaints == []


async def _ask(page: Page) -> None:
    """Ask in writing, and see the answer begin."""
    await page.get_by_role("textbox").fill(QUESTION)
    await page.get_by_role("textbox").press("Enter")
    answer = page.locator(".entry.agent[data-status=streaming] .text")
    await expect(answer).to_have_text(re.compile(r"\w"), timeout=TURN_TIMEOUT_MS)
