"""What every browser test works with.

Starting a browser takes longer than most of these tests: all share one, on one event loop,
each with a profile of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.helpers.browser import chromium, collect_complaints
from tests.helpers.browser_server import BrowserServer, browser_server
from tests.helpers.server import RunningServer, running_server
from tests.helpers.speech import Recording, recording


@pytest.fixture(scope="session")
def spoken_clip() -> Recording:
    """The recording that the browser's microphone plays."""
    return recording(at_least_s=3.0, at_most_s=12.0)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(spoken_clip: Recording) -> AsyncIterator[Browser]:
    """A browser whose microphone plays the recording, from its start each time."""
    async with chromium(spoken_clip.path) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty tab with a profile of its own."""
    async with await browser.new_context(viewport={"width": 960, "height": 720}) as context:
        yield await context.new_page()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the tab's console shows: errors, warnings, CSP violations, exceptions."""
    return collect_complaints(page)


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[BrowserServer]:
    """The gateway with a scripted session behind it."""
    async with browser_server() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def modules(page: Page, server: BrowserServer) -> Page:
    """A tab from which the modules can be imported and that runs nothing else."""
    await page.goto(f"{server.url}icon.svg")
    return page


@pytest.fixture(scope="session")
def real_server() -> Iterator[RunningServer]:
    """The server with the embedded engine, in a process of its own."""
    with running_server() as server:
        yield server
