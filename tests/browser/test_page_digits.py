"""The page and a model that hears digits: later turns use earlier ones, whatever process dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

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
TURN_TIMEOUT_MS = 60_000


@asynccontextmanager
async def digits_server(port: int = 0) -> AsyncIterator[RunningServer]:
    """`voice-agent serve` with the checkpoint that hears digits."""
    options = ("--model", str(DATA / "tiny-gemma"), "--temperature", "0")
    server = running_server(*options, engine="gemma", port=port)
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
    await expect(answers(page)).to_have_count(before + 1, timeout=TURN_TIMEOUT_MS)
    await expect(answers(page).last).to_have_text(answer)


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_the_conversation_outlives_the_engine_and_the_server(
    tmp_path: Path, transport: str
) -> None:
    speech = tmp_path / "two-turns.wav"
    write_wav(speech, in_a_row([Recording(clip, "").samples() for clip in CLIPS], PAUSE_S))
    async with chromium(speech) as browser:
        page = await browser.new_page(viewport={"width": 960, "height": 720})
        async with digits_server() as server:
            complaints = collect_complaints(page)
            await page.goto(f"{server.url}/?transport={transport}")
            await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
            await page.get_by_role("button", name="Start talking").click()
            await expect(answers(page)).to_have_text(
                ["You said 3 1 4.", "You said 2 7."], timeout=TURN_TIMEOUT_MS
            )
            await expect(page.locator(".entry.user .text")).to_have_text(["3 1 4", "2 7"])
            await ask(page, "Which digits did I say first?", "You said 3 1 4.")

            os.kill(server.engine_pids()[0], signal.SIGKILL)
            await ask(page, "Which digits did I say last?", "You said 2 7.")
            assert server.metric("voice_agent_engine_restarts_total") == 1
            assert complaints == []

            server.process.kill()
            await expect(page.get_by_text("Not connected", exact=True).first).to_be_visible(
                timeout=TURN_TIMEOUT_MS
            )
        texts = page.locator(".entry .text")
        before = await texts.all_text_contents()
        async with digits_server(server.port):
            await expect(page.get_by_text("Connected", exact=True)).to_be_visible(
                timeout=TURN_TIMEOUT_MS
            )
            await expect(page.get_by_role("status")).to_have_text("Listening")
            again = "Connected again. The conversation goes on."
            await expect(texts).to_have_text([*before, again])
            await ask(page, "Which digits did I say first?", "You said 3 1 4.")
            await take_picture(page, f"page-digits-{transport}")
