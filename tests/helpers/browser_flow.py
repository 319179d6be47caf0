"""A short conversation on the page, and what the page tells the next session of it."""

from __future__ import annotations

from playwright.async_api import Page, expect

from agent.protocol import server_events
from tests.helpers.browser_server import (
    BrowserServer,
    BrowserSession,
    answer_begins,
    answer_ends,
    spoken,
)


async def open_page(page: Page, server: BrowserServer, query: str = "") -> BrowserSession:
    """Load the page with this query and wait until it is connected."""
    await page.goto(server.url + query)
    session = await server.next_session()
    await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    return session


async def send_turn(session: BrowserSession) -> None:
    """Something was said, and answered."""
    await session.send(
        server_events.speech_started("item_1", 320),
        *spoken("item_1", 320, 2400),
        server_events.transcription_completed("item_1", "Who was Jane Austen?", 2.0),
        *answer_begins("resp_1", "item_2"),
        server_events.text_delta("resp_1", "item_2", "An English novelist."),
        *answer_ends("resp_1", "item_2", "An English novelist."),
    )


RECREATED = [
    ("item_1", "user", [{"type": "input_text", "text": "Who was Jane Austen?"}]),
    ("item_2", "assistant", [{"type": "output_text", "text": "An English novelist."}]),
]


def created(session: BrowserSession) -> list[tuple[str, str, list[dict[str, str]]]]:
    """The items that the page has made, in order."""
    items = [event["item"] for event in session.events if event["type"].endswith("item.create")]
    return [(item["id"], item["role"], item["content"]) for item in items]


def kinds(session: BrowserSession) -> list[str]:
    return [event["type"] for event in session.events]
