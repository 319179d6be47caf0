"""The page and a model that hears digits: later turns use earlier ones, whatever process dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, ViewportSize, expect

from tests.helpers.browser import chromium, collect_complaints, take_picture
from tests.helpers.server import RunningServer, running_server
from tests.helpers.speech import Recording, write_wav
from tests.helpers.translating import in_a_row

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
]

DATA = Path(__file__).parents[1] / "data"
CLIPS = [DATA / "spoken-digits" / name for name in ("three-one-four.wav", "two-seven.wav")]
PAUSE_S = 1.0  # ends a turn


@asynccontextmanager
async def digits_server(port: int = 0) -> AsyncIterator[RunningServer]:
    """`voice-agent serve` with the checkpoint that hears digits."""
    options = ("--model", str(DATA / "tiny-gemma"), "--temperature", "0")
    settings = {"VOICE_AGENT_GEMMA__PIECE_MS": "320"}  # not found out by measuring
    server = running_server(*options, engine="gemma", port=port, **settings)
    running = await asyncio.to_thread(server.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def answers(page: Page) -> Locator:
    return page.locator(".entry.agent[data-status=done] .text")


async def ask(page: Page, question: str, answer: str) -> None:
    """Type a question about what was said, and have it answered."""
    before = await answers(page).count()
    await page.get_by_role("textbox").fill(question)
    await page.get_by_role("textbox").press("Enter")
    await expect(answers(page)).to_have_count(before + 1)
    await expect(answers(page).last).to_have_text(answer)


async def begin(page: Page, server: RunningServer, transport: str) -> None:
    """Say digits in two turns, and ask about the first of them."""
    await page.goto(f"{server.url}/?transport={transport}")
    await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Start talking").click()
    # On a busy machine the second turn may interrupt the answer to the first.
    await expect(answers(page).last).to_have_text("You said 2 7.")
    await expect(page.locator(".entry.user .text")).to_have_text(["3 1 4", "2 7"])
    await ask(page, "Which digits did I say first?", "You said 3 1 4.")


async def notice_the_loss(page: Page) -> list[str]:
    """What the conversation was, once the page knows that the server is gone."""
    lost = page.get_by_text("Not connected", exact=True).first
    await expect(lost).to_be_visible()
    return await page.locator(".entry .text").all_text_contents()


async def go_on(page: Page, before: list[str], transport: str) -> None:
    """Be connected again without a touch, with all that was said."""
    connected = page.get_by_text("Connected", exact=True)
    await expect(connected).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("Listening")
    again = "Connected again. The conversation goes on."
    await expect(page.locator(".entry .text")).to_have_text([*before, again])
    await ask(page, "Which digits did I say first?", "You said 3 1 4.")
    await take_picture(page, f"page-digits-{transport}")


async def test_conversations_outlive_the_engine_and_the_server(tmp_path: Path) -> None:
    """Over both transports at once: what takes long is to start the server again."""
    speech = tmp_path / "two-turns.wav"
    write_wav(speech, in_a_row([Recording(clip, "").samples() for clip in CLIPS], PAUSE_S))
    transports = ("websocket", "webrtc")
    # Pages of one browser would share the microphone, and one of them miss its beginning.
    async with chromium(speech) as one, chromium(speech) as other:
        size: ViewportSize = {"width": 960, "height": 720}
        pages = [await browser.new_page(viewport=size) for browser in (one, other)]
        complaints = [collect_complaints(page) for page in pages]
        async with digits_server() as server:
            await asyncio.gather(*map(begin, pages, [server] * 2, transports))

            os.kill(server.engine_pids()[0], signal.SIGKILL)
            question = "Which digits did I say last?"
            await asyncio.gather(*[ask(page, question, "You said 2 7.") for page in pages])
            assert server.metric("voice_agent_engine_restarts_total") == 1
            assert complaints == [[], []]

            server.process.kill()
            before = await asyncio.gather(*map(notice_the_loss, pages))
        async with digits_server(server.port):
            await asyncio.gather(*map(go_on, pages, before, transports))
