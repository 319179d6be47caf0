"""OpenAI's agents SDK for JavaScript, unmodified, speaks with the real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.embedding.conftest import KEY, FrontEnd, Sentence, check_heard_and_answered
from tests.helpers.browser import chromium, collect_complaints, take_picture
from tests.helpers.examples import EXAMPLES, SDK, NodeProject, node_project, require_sdk
from tests.helpers.patience import PATIENCE_S
from tests.helpers.server import RunningServer
from tests.helpers.wer import word_errors

pytestmark = [pytest.mark.models, pytest.mark.slow]


@pytest.fixture
def node(tmp_path: Path) -> NodeProject:
    return node_project(tmp_path)


def test_two_spoken_turns_over_a_websocket(
    node: NodeProject, keyed_server: RunningServer, sentences: list[Sentence]
) -> None:
    files = [str(sentence.path) for sentence in sentences]
    script = EXAMPLES / "agents_sdk_node.mjs"
    with node.run(script, keyed_server.ws_url, *files, VOICE_AGENT_API_KEY=KEY) as example:
        lines = example.until_done()
    check_heard_and_answered(lines, sentences)


def test_speech_interrupts_an_answer_over_a_websocket(
    node: NodeProject, keyed_server: RunningServer, sentences: list[Sentence]
) -> None:
    script = SDK / "interrupted.mjs"
    recording = sentences[0].path
    with node.run(script, keyed_server.ws_url, str(recording), VOICE_AGENT_API_KEY=KEY) as driver:
        outcome = json.loads(driver.until_done()[-1])
    assert outcome["ended"] == "cancelled turn_detected"
    assert word_errors(sentences[0].text, outcome["heard"]).rate <= 0.35
    # In the SDK's own history the first answer is marked, and the second one goes on.
    assert outcome["statuses"][0] == "incomplete"
    assert len(outcome["statuses"]) == 2


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_two_spoken_turns_and_an_interruption_over_webrtc(
    front_end: FrontEnd, sentences: list[Sentence], spoken_twice: Path
) -> None:
    require_sdk()
    async with chromium(spoken_twice) as browser:
        page = await browser.new_page(viewport={"width": 720, "height": 560})
        complaints = collect_complaints(page)
        await page.goto(f"{front_end.url}/agents_sdk_page.html")
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_role("status")).to_have_text("Listening")

        await _until_answered(page, [sentence.text for sentence in sentences])
        await expect(page.locator("[data-role=user]")).to_have_count(2)
        await take_picture(page, "agents-sdk-page")
        assert await _interrupt(page) == "cancelled"
        answers = page.locator("[data-role=assistant]")
        await expect(answers.last).to_have_attribute("data-status", "incomplete")
        assert complaints == []


async def _until_answered(page: Page, texts: list[str]) -> None:
    """Wait until all of it was heard, and the last of it answered."""
    heard = page.locator("[data-role=user]")
    words = sum(len(text.split()) for text in texts)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            said = " ".join(await heard.all_text_contents())
            roles = await page.locator("[data-role]").evaluate_all(
                "all => all.map((line) => `${line.dataset.role} ${line.dataset.status}`)"
            )
            if len(said.split()) >= 0.7 * words and roles[-1:] == ["assistant completed"]:
                break
            await asyncio.sleep(0.1)
    assert word_errors(" ".join(texts), said).rate <= 0.35
    answers = await page.locator("[data-role=assistant]").all_text_contents()
    assert all(answer.strip() for answer in answers)


INTERRUPT = """() => new Promise((resolve) => {
  session.on("transport_event", (event) => {
    if (event.type === "response.output_text.delta") session.interrupt();
    if (event.type === "response.done") resolve(event.response.status);
  });
  session.sendMessage("Tell me a long story about a king and his three sons.");
})"""


async def _interrupt(page: Page) -> str:
    """Ask for a long answer by the SDK's own means, and interrupt it; how the answer ended."""
    return await page.evaluate(INTERRUPT)
