"""The example pages, in a real Chromium that hears recordings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.embedding.conftest import KEY, FrontEnd, Sentence
from tests.helpers.browser import chromium, collect_complaints, take_picture
from tests.helpers.examples import EXAMPLES
from tests.helpers.server import RunningServer
from tests.helpers.wer import word_errors

pytestmark = [
    pytest.mark.browser,
    pytest.mark.models,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
]

OWN_SERVER = "http://127.0.0.1:8080"

# A headless browser has no voice. This one says two words of what it is given, tells of each, and
# takes its time over the third; and the data channel's messages are kept.
STAND_IN_VOICE = """
let waiting = [];
const say = (utterance) => {
  const words = [...utterance.text.matchAll(/\\\\S+/g)];
  words.slice(0, 3).forEach((word) => utterance.onboundary?.({ charIndex: word.index }));
};
const synthesis = {
  paused: false,
  speak(utterance) { if (waiting.push(utterance) === 1) setTimeout(() => say(utterance), 50); },
  cancel() { waiting = []; },
  pause() { this.paused = true; },
  resume() { this.paused = false; },
};
Object.defineProperty(window, "speechSynthesis", { value: synthesis });
window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };

window.sent = [];
const send = RTCDataChannel.prototype.send;
RTCDataChannel.prototype.send = function (data) {
  window.channel = this;
  window.sent.push(JSON.parse(data));
  return send.call(this, data);
};
""".replace("\\\\", "\\")

RETRIEVE = """(itemId) => new Promise((resolve) => {
  channel.addEventListener("message", ({ data }) => {
    const event = JSON.parse(data);
    if (event.type === "conversation.item.retrieved") resolve(event.item.content[0].text);
  });
  channel.send(JSON.stringify({ type: "conversation.item.retrieve", item_id: itemId }));
})"""


async def test_a_page_that_speaks_tells_the_server_how_far_it_got(
    front_end: FrontEnd, sentences: list[Sentence], spoken_twice: Path
) -> None:
    first, second = sentences
    async with chromium(spoken_twice) as browser:
        page = await browser.new_page(viewport={"width": 720, "height": 560})
        complaints = collect_complaints(page)
        await page.add_init_script(STAND_IN_VOICE)
        await page.goto(f"{front_end.url}/speaking.html")
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_role("status")).to_have_text("Listening")

        cut = page.locator(".guide:has(.unsaid)")
        await expect(cut).to_have_count(1)
        whole = await cut.text_content()
        unsaid = await cut.locator(".unsaid").text_content()
        said = whole[: -len(unsaid)]
        assert len(said.split()) == 2
        [truncate] = await _sent(page, "conversation.item.truncate")
        assert truncate["text_end"] == len(said)
        assert await page.evaluate(RETRIEVE, truncate["item_id"]) == said

        answers = page.locator(".guide")
        await expect(answers).to_have_count(2)
        await expect(answers.last).not_to_be_empty()
        heard = page.locator(".you")
        await expect(heard.last).not_to_be_empty()
        await take_picture(page, "example-speaking")
        words = " ".join(await heard.all_text_contents())
        assert word_errors(f"{first.text} {second.text}", words).rate <= 0.35
        assert complaints == []


async def test_a_kiosk_of_ones_own_talks_to_a_server_elsewhere(
    front_end: FrontEnd, keyed_server: RunningServer, sentences: list[Sentence]
) -> None:
    kiosk = (EXAMPLES / "kiosk.html").read_text("utf-8")
    assert OWN_SERVER in kiosk
    (front_end.folder / "kiosk.html").write_text(kiosk.replace(OWN_SERVER, keyed_server.url))
    async with chromium(sentences[0].path) as browser:
        page = await browser.new_page(viewport={"width": 960, "height": 720})
        complaints = collect_complaints(page)
        # The server of this test wants a key; a kiosk's own server on 127.0.0.1 needs none.
        await page.goto(f"{front_end.url}/kiosk.html")
        await page.evaluate(
            """([server, key]) => import("./voice-agent/key-store.js").then(
              ({ saveKey }) => saveKey(new URL(server), key))""",
            [keyed_server.url, KEY],
        )
        complaints.clear()
        await page.reload()
        await _let_it_listen(page)
        words = page.locator(".entry.user .text")
        answers = page.locator(".entry.agent .text")
        await expect(words.last).to_have_text(re.compile(r"\w"))
        await expect(answers.last).to_have_text(re.compile(r"\w"))
        await take_picture(page, "example-kiosk")
        heard = " ".join(await words.all_text_contents())
        assert word_errors(sentences[0].text, heard).rate <= 0.35
        assert complaints == []


async def _let_it_listen(page: Page) -> None:
    """Touch the page where the browser wants that before it gives sound."""
    touch = page.get_by_role("button", name=re.compile("Touch to begin|Start talking"))
    listening = page.get_by_role("status").filter(has_text=re.compile("Listening|Hearing you"))
    await expect(touch.or_(listening).first).to_be_visible()
    if await touch.is_visible():
        await touch.click()


async def _sent(page: Page, event_type: str) -> list[dict]:
    events = await page.evaluate("sent")
    return [event for event in events if event["type"] == event_type]
