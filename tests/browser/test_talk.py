"""Speaking with the page through the real sessions, over both transports."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, Page, expect

from tests.helpers.browser import take_picture
from tests.helpers.talking_server import TalkingServer, talking_server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("transport", ["websocket", "webrtc"]),
]


async def open_page(page: Page, server: TalkingServer, transport: str) -> None:
    await page.goto(f"{server.url}?transport={transport}")
    await expect(page.get_by_text("Connected", exact=True)).to_be_visible()


def talk(page: Page) -> Locator:
    return page.get_by_role("button", name="Start talking")


def answers(page: Page) -> Locator:
    return page.locator(".entry.agent .text")


async def say(page: Page) -> None:
    """Play the recording, from its start, into the page; the microphone is off afterwards."""
    await talk(page).click()
    await expect(page.get_by_role("status")).to_have_text("Hearing you")
    quiet = page.locator(".entry.user[data-status=done]")
    before = await quiet.count()
    await expect(quiet).to_have_count(before + 1)


async def test_a_second_turn_knows_the_first(page: Page, transport: str) -> None:
    async with talking_server() as server:
        await open_page(page, server, transport)
        await say(page)
        await expect(answers(page).last).to_contain_text("1 said:")
        await page.get_by_role("button", name="Stop the microphone").click()
        first = await page.locator(".entry.user .text").first.text_content()
        await say(page)
        # The recording may hold a pause that ends a turn.
        await expect(answers(page).last).to_contain_text(f"said: {first}, ")
        await take_picture(page, f"talk-second-turn-{transport}")


async def test_speaking_during_an_answer_interrupts_it(page: Page, transport: str) -> None:
    async with talking_server(talkative=True) as server:
        await open_page(page, server, transport)
        await say(page)
        await expect(answers(page).last).to_contain_text("said:")
        await page.get_by_role("button", name="Stop the microphone").click()
        await expect(page.get_by_role("status")).to_have_text("Answering")
        await talk(page).click()
        cut = page.locator(".entry.agent[data-status=cut]")
        await expect(cut).to_have_count(1)
        await expect(cut).to_contain_text("Interrupted by you")
        await take_picture(page, f"talk-interrupted-{transport}")


async def test_push_to_talk_ends_the_turn_when_it_is_let_go(page: Page, transport: str) -> None:
    async with talking_server() as server:
        await open_page(page, server, transport)
        await page.get_by_role("switch", name="Push to talk").check()
        await talk_until_released(page)
        await expect(answers(page).last).to_contain_text("1 said:")
        words = await page.locator(".entry.user .text").text_content()
        assert (words or "").strip().isdigit()  # how loud it was: not silence
        await take_picture(page, f"talk-pushed-{transport}")


async def talk_until_released(page: Page) -> None:
    """Hold the space bar; longer than the recording's first words, shorter than all of it."""
    await page.locator("body").click(position={"x": 5, "y": 300})
    await page.keyboard.down("Space")
    await expect(page.get_by_role("status")).to_have_text("Hearing you")
    await page.wait_for_timeout(1500)  # a person speaks
    await page.keyboard.up("Space")
