"""A real Chromium with a recording as its microphone."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Page,
    ViewportSize,
    async_playwright,
    expect,
)

from tests.helpers.patience import PATIENCE_S

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

expect.set_options(timeout=PATIENCE_S * 1000)


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


async def take_pictures(page: Page, name: str) -> None:
    """As `take_picture`, and once more as NAME-narrow-dark: on a small phone, in dark colours."""
    await take_picture(page, name)
    size = page.viewport_size
    assert size is not None
    await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    await resize(page, {"width": 320, "height": 600})
    await take_picture(page, f"{name}-narrow-dark")
    widths = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], f"{name}: wider than the screen"
    await page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    await resize(page, size)


async def resize(page: Page, size: ViewportSize) -> None:
    """Give the page another size, and let it be drawn in that once, as on any real screen."""
    await page.set_viewport_size(size)
    await page.evaluate(
        """async ({width}) => {
            const drawn = (done) => requestAnimationFrame(() => setTimeout(done));
            const frame = () => new Promise(drawn);
            do await frame(); while (innerWidth !== width);
            await frame();
        }""",
        size,
    )


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
