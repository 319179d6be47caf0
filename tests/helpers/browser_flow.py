"""What tests of the page do: open it, play a conversation or translation, read what it told."""

from __future__ import annotations

from playwright.async_api import Locator, Page, expect

from agent.protocol import server_events
from tests.helpers.browser_server import (
    BrowserServer,
    BrowserSession,
    Event,
    answer_begins,
    answer_ends,
    spoken,
)

START = "Start talking"


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


def target_picker(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Translation")


def segment(number: int, status: str = "completed") -> Event:
    """A segment of a translation has ended."""
    return server_events.segment_timings(
        item_id=f"item_{number}", start_ms=0, end_ms=1000, status=status,
        speech_end_to_first_text_ms=640.0, speech_end_to_done_ms=900.0, backlog_s=0.0,
    )  # fmt: skip


def said(text: str) -> Event:
    return server_events.input_transcript_delta(text, 200)


def meant(text: str) -> Event:
    return server_events.output_transcript_delta(text, 200)
