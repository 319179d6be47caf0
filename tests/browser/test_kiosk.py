"""A page without an attendant: it starts, goes on and forgets by itself."""

from __future__ import annotations

import re

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from agent.gateway.transport import CLOSE_POLICY
from agent.protocol import server_events
from tests.helpers.browser import take_picture
from tests.helpers.browser_flow import open_page
from tests.helpers.browser_server import (
    BrowserServer,
    answer_begins,
    answer_ends,
    spoken,
)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _never_asked(page: Page) -> None:
    """A browser that has not allowed the microphone yet: then one touch is always needed."""
    await page.context.grant_permissions([])


async def test_a_kiosk_starts_after_one_touch_and_forgets_the_visitor(
    page: Page, server: BrowserServer, complaints: list[str]
) -> None:
    await page.set_viewport_size({"width": 1080, "height": 1400})
    session = await open_page(page, server, "?kiosk&idle-seconds=6")
    tap = page.get_by_role("button", name="Touch to begin")
    await expect(tap).to_be_focused()
    await take_picture(page, "page-kiosk-touch")
    await tap.click()
    await session.until_audio(80)
    await expect(tap).to_be_hidden()
    for name in ("textbox", "combobox", "link"):
        await expect(page.get_by_role(name)).to_have_count(0)  # type: ignore[arg-type]

    await session.send(
        server_events.speech_started("item_1", 0),
        *spoken("item_1", 0, 1000),
        server_events.transcription_completed("item_1", "Where is the exit?", 1.0),
        *answer_begins("resp_1", "item_2"),
        server_events.text_delta("resp_1", "item_2", "Left of the stairs."),
    )
    await expect(page.get_by_role("button", name="Stop answer")).to_be_visible()
    await take_picture(page, "page-kiosk-answer")
    # As long as it answers it does not reset.
    await session.send(*answer_ends("resp_1", "item_2", "Left of the stairs."))
    await expect(page.get_by_text("This is cleared in")).to_be_visible()
    await take_picture(page, "page-kiosk-clearing")
    again = await server.next_session()
    await expect(page.get_by_text("Where is the exit?")).to_have_count(0)
    # The next visitor finds it listening, in a session that knows nothing.
    await again.until_audio(80)
    assert [event["type"] for event in again.events] == ["session.update"]
    assert complaints == []


async def test_a_kiosk_starts_by_itself_where_the_browser_allows_it(
    page: Page, server: BrowserServer
) -> None:
    await page.add_init_script(
        """
        navigator.permissions.query = async () => ({ state: "granted" });
        Object.defineProperty(AudioContext.prototype, "state", { get: () => "running" });
        """
    )
    session = await open_page(page, server, "?kiosk&mode=captions")
    await session.until_audio(80)
    await expect(page.get_by_role("button", name="Touch to begin")).to_be_hidden()
    await expect(page.get_by_role("status")).to_have_text("Listening")
    await take_picture(page, "page-kiosk-captions")


async def test_a_kiosk_begins_anew_when_the_server_ends_the_session(
    page: Page, server: BrowserServer
) -> None:
    session = await open_page(page, server, "?kiosk")
    await page.get_by_role("button", name="Touch to begin").click()
    await session.until_audio(40)
    await session.close(CLOSE_POLICY, "the longest time is over")
    again = await server.next_session()
    await again.until_audio(40)


async def test_a_touch_keeps_the_page_of_a_kiosk(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server, "?kiosk&idle-seconds=9")
    await page.get_by_role("button", name="Touch to begin").click()
    await session.send(
        *answer_begins("resp_1", "item_1"),
        server_events.text_delta("resp_1", "item_1", "Yes."),
        *answer_ends("resp_1", "item_1", "Yes."),
    )
    # Each number is shown for a second, which a busy machine may miss.
    await expect(page.get_by_text(re.compile("This is cleared in [1-6] s"))).to_be_visible()
    await page.get_by_text("Yes.", exact=True).click()
    await expect(page.get_by_text(re.compile("This is cleared in [7-9] s"))).to_be_visible()
