"""A real Chromium with a recording as its microphone."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "test-artifacts"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream",
    # A name that is not this machine's own: a page under it has no microphone.
    "--host-resolver-rules=MAP insecure.test 127.0.0.1",
)  # fmt: skip

_being_checked: set[Page] = set()


def find_chromium() -> str:
    """Path of an installed Chromium; skips the test where there is none."""
    for name in CHROMIUM_NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser: none of {', '.join(CHROMIUM_NAMES)} is installed")


@asynccontextmanager
async def chromium(microphone: Path, *, refused: bool = False) -> AsyncIterator[Browser]:
    """A browser whose microphone plays a file once, each time it is opened.

    Args:
        microphone: A WAV file.
        refused: The person says no when asked for the microphone.
    """
    flags = [
        *_FLAGS,
        "--use-fake-ui-for-media-stream" + ("=deny" if refused else ""),
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
    ]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=flags)
        try:
            yield browser
        finally:
            await browser.close()


def collect_complaints(page: Page) -> list[str]:
    """A list that fills with the page's console errors, CSP violations and exceptions."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # axe-core tries styles that the content security policy does not allow.
        if message.type in {"error", "warning"} and page not in _being_checked:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


async def take_picture(page: Page, name: str) -> None:
    """Save what the page looks like to `test-artifacts/NAME.png`, and check it with axe-core."""
    ARTIFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTIFACTS / f"{name}.png")
    _being_checked.add(page)
    results = await Axe().run(page)
    _being_checked.discard(page)
    found = [
        (violation["id"], node["html"], node["failureSummary"])
        for violation in results.response["violations"]
        for node in violation["nodes"]
    ]
    assert found == [], f"{name}: {found}"
