"""What a kiosk says when something is wrong: it has no buttons and goes on by itself."""

from __future__ import annotations

import re

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.helpers.browser import take_picture
from tests.helpers.browser_flow import open_page
from tests.helpers.browser_server import BrowserServer, browser_server

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

REFUSES = """
navigator.mediaDevices.getUserMedia =
  () => Promise.reject(new DOMException('as a browser does', '%s'));
"""
PULLED_OUT = """
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
let left = %d;
navigator.mediaDevices.getUserMedia = async (constraints) => {
  if (left === 0) throw new DOMException('none is left', 'NotFoundError');
  left -= 1;
  return (window.testStream = await open(constraints));
};
"""
ASKS = "navigator.mediaDevices.getUserMedia = () => new Promise(() => {});"
NO_SOUND = """
AudioContext.prototype.resume = AudioContext.prototype.close = () => new Promise(() => {});
const wait = window.setTimeout.bind(window);
window.setTimeout = (act, ms) => wait(act, ms === 5000 ? 100 : ms);  // the time it is given
"""


def alert(page: Page) -> Locator:
    return page.get_by_role("alert").filter(visible=True)


async def touch(page: Page) -> None:
    await page.get_by_role("button", name="Touch to begin").click()


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _tall(page: Page) -> None:
    await page.context.grant_permissions([])  # as a browser that has not been asked yet
    await page.set_viewport_size({"width": 900, "height": 1200})


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("NotFoundError", "Connect one: this page goes on by itself."),
        ("NotAllowedError", "Allow it in the browser's site settings: this page goes on by"),
        ("NotReadableError", "Close that program: this page goes on by itself."),
    ],
)
async def test_a_microphone_that_does_not_start(
    page: Page, server: BrowserServer, error: str, sentence: str
) -> None:
    await page.add_init_script(REFUSES % error)
    await open_page(page, server, "?kiosk")
    await touch(page)
    await expect(alert(page)).to_contain_text(sentence)
    await expect(page.get_by_role("button")).to_have_count(0)
    await take_picture(page, f"page-kiosk-{error}")


@pytest.mark.parametrize(
    ("opens", "name", "sentence"),
    [
        (1, "lost", "Connect it: this page goes on by itself."),
        (2, "changed", "another one is used now."),
    ],
)
async def test_a_microphone_that_is_pulled_out(
    page: Page, server: BrowserServer, opens: int, name: str, sentence: str
) -> None:
    await page.add_init_script(PULLED_OUT % opens)
    session = await open_page(page, server, "?kiosk")
    await touch(page)
    await session.until_audio(40)
    await page.evaluate("window.testStream.getTracks()[0].dispatchEvent(new Event('ended'))")
    await expect(alert(page)).to_have_text(re.compile(f"disconnected.*{re.escape(sentence)}"))
    await take_picture(page, f"page-kiosk-microphone-{name}")


async def test_sound_that_does_not_start(page: Page, server: BrowserServer) -> None:
    await page.add_init_script(NO_SOUND)
    await open_page(page, server, "?kiosk")
    await touch(page)
    await expect(alert(page)).to_contain_text("connect one, and this page goes on by itself")
    await take_picture(page, "page-kiosk-sound-not-started")


async def test_a_browser_that_asks(page: Page, server: BrowserServer) -> None:
    await page.add_init_script(ASKS)
    await open_page(page, server, "?kiosk")
    await touch(page)
    await expect(page.get_by_role("status")).to_have_text("Asking for the microphone")
    await expect(page.get_by_text("choose “Allow” there")).to_be_visible()
    await take_picture(page, "page-kiosk-asking")


@pytest.mark.parametrize(
    ("key", "name", "sentence"),
    [
        ("", "missing", "this page has none. Whoever set it up must add it."),
        ("wrong", "wrong", "Whoever set it up must give it another one."),
        ("not/a=token", "malformed", "must give it one of letters, digits"),
    ],
)
async def test_a_key_is_not_asked_for(page: Page, key: str, name: str, sentence: str) -> None:
    async with browser_server(key=b"right-key") as server:
        await page.goto(f"{server.url}?kiosk")
        await touch(page)
        await expect(alert(page)).to_contain_text("this page has none")
        if key:
            await page.locator("voice-agent").evaluate("(agent, key) => { agent.key = key; }", key)
        await expect(alert(page)).to_contain_text(sentence)
        await expect(page.get_by_label("Server key")).to_be_hidden()
        await take_picture(page, f"page-kiosk-key-{name}")
        await page.locator("voice-agent").evaluate("agent => { agent.key = 'right-key'; }")
        await server.next_session()
        await expect(alert(page)).to_have_count(0)


async def test_a_server_that_is_full_and_then_gone(page: Page) -> None:
    async with browser_server(max_sessions=1) as server:
        async with await page.context.browser.new_context() as first:
            await (await first.new_page()).goto(server.url)
            await server.next_session()
            await page.goto(f"{server.url}?kiosk")
            await touch(page)
            await expect(alert(page)).to_contain_text("connects as soon as one is free")
            await expect(page.get_by_text("Next attempt in")).to_be_visible()
            await take_picture(page, "page-kiosk-server-full")
        session = await server.next_session()
        await session.until_audio(40)
        await server.stop()
        await expect(alert(page)).to_contain_text("The server does not answer")
        await take_picture(page, "page-kiosk-server-gone")
