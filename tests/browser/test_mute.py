"""Muting the page's microphone while one speaks, through the real sessions and either transport."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.helpers.talking_server import talking_server

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_what_was_said_before_the_mute_is_a_turn_and_nothing_after_it(
    page: Page, transport: str, complaints: list[str]
) -> None:
    async with talking_server() as server:
        await page.goto(f"{server.url}?transport={transport}")
        await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Start talking").click()
        status = page.get_by_role("status")
        await expect(status).to_have_text("Hearing you")
        await page.get_by_role("button", name="Mute", exact=True).click()
        turns = page.locator(".entry.user[data-status=done]")
        await expect(turns).to_have_count(1)
        await expect(status).to_have_text("Muted")
        # The recording goes on for seconds: none of it is heard.
        await page.wait_for_timeout(2000)
        await expect(page.locator(".entry.user")).to_have_count(1)
        await page.get_by_role("button", name="Stop the microphone").click()
        await page.get_by_role("button", name="Start talking").click()
        await expect(turns).not_to_have_count(1)
        assert complaints == []
