"""Translation and captions against the real server, over both transports."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.helpers.browser import chromium, collect_complaints, take_picture
from tests.helpers.server import RunningServer
from tests.helpers.speech import recordings
from tests.helpers.wer import word_errors

pytestmark = [
    pytest.mark.browser,
    pytest.mark.models,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_german_that_is_spoken_stands_beside_its_english(
    real_server: RunningServer, transport: str
) -> None:
    clip = recordings("de")[0]
    async with chromium(clip.path) as browser:
        page = await browser.new_page(viewport={"width": 960, "height": 640})
        complaints = collect_complaints(page)
        query = f"mode=translation&source-language=de&transport={transport}"
        await page.goto(f"{real_server.url}/?{query}")
        await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
        # What the embedded engine translates into, and that there is no more.
        targets = page.get_by_role("combobox", name="Translation").get_by_role("option")
        await expect(targets).to_have_text(["English", "Other languages need Gemma 4"])
        await page.get_by_role("button", name="Start talking").click()
        row = page.locator(".passage[data-status=done]").first
        await expect(row).to_be_visible()
        source = page.locator(".source")
        heard = " ".join(await source.all_text_contents())
        assert word_errors(clip.text, heard).rate <= 0.5
        translation = " ".join(await page.locator(".target").all_text_contents())
        assert re.search(r"\b(the|was|is|a|room|used)\b", translation, re.IGNORECASE), translation
        await take_picture(page, f"page-real-translation-{transport}")
        assert complaints == []


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_captions_come_while_the_person_speaks(
    real_server: RunningServer, transport: str
) -> None:
    clip = next((clip for clip in recordings() if "my fellow" in clip.text), None)
    if clip is None:
        pytest.skip("the recording that this test knows is not there")
    async with chromium(clip.path) as browser:
        page = await browser.new_page(viewport={"width": 960, "height": 640})
        complaints = collect_complaints(page)
        await page.add_init_script(
            """
            window.told = [];
            document.addEventListener("transcript", ({ detail }) => told.push(detail));
            """
        )
        await page.goto(f"{real_server.url}/?mode=captions&language=en&transport={transport}")
        await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Start talking").click()
        # The recording has pauses: this is its first turn of several.
        await expect(page.locator(".entry[data-status=done] .text").first).to_have_text(
            re.compile("fellow", re.IGNORECASE)
        )
        await take_picture(page, f"page-real-captions-{transport}")
        first = (await page.evaluate("window.told"))[0]
        # Its words were on the page before it was complete.
        assert first["final"] is False
        assert complaints == []
