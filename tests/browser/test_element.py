"""What an integrator's page uses of the element: attributes, events, methods, its look."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from agent.gateway.transport import CLOSE_POLICY
from agent.protocol import server_events
from tests.helpers.browser_flow import START, meant, open_page, said, segment, target_picker
from tests.helpers.browser_server import (
    BrowserServer,
    answer_begins,
    answer_ends,
    spoken,
)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

RECORD = """
window.told = [];
for (const type of ["statechange", "transcript", "answer", "turnlatency", "translation",
                    "failure", "reset"]) {
  document.addEventListener(type, ({ type, detail }) => told.push([type, detail]));
}
"""


async def told(page: Page, kind: str) -> list[Any]:
    """Details of the element's events of one type so far."""
    events = await page.evaluate("window.told")
    return [detail for name, detail in events if name == kind]


async def test_events_tell_a_turn_as_it_happens(page: Page, server: BrowserServer) -> None:
    await page.add_init_script(RECORD)
    session = await open_page(page, server, "")
    await session.send(
        server_events.speech_started("item_1", 0),
        server_events.transcription_delta("item_1", "Who"),
        *spoken("item_1", 0, 1000),
        server_events.transcription_completed("item_1", "Who was it?", 1.0),
        *answer_begins("resp_1", "item_2"),
        server_events.text_delta("resp_1", "item_2", "A "),
        server_events.text_delta("resp_1", "item_2", "cat."),
        *answer_ends("resp_1", "item_2", "A cat."),
    )
    await expect(page.locator(".entry[data-status=done]")).to_have_count(2)
    assert await told(page, "transcript") == [
        {"itemId": "item_1", "text": "Who", "final": False},
        {"itemId": "item_1", "text": "Who was it?", "final": True},
    ]
    answers = await told(page, "answer")
    assert [(one["text"], one["status"]) for one in answers] == [
        ("", "streaming"), ("A ", "streaming"), ("A cat.", "streaming"), ("A cat.", "done"),
    ]  # fmt: skip
    assert {(one["itemId"], one["responseId"]) for one in answers} == {("item_2", "resp_1")}
    (latency,) = await told(page, "turnlatency")
    assert (latency["itemId"], latency["measuredBy"]) == ("item_2", "page")
    activities = [state["activity"] for state in await told(page, "statechange")]
    assert activities[0] == "offline"
    assert activities[-1] == "idle"
    assert {"hearing", "thinking", "answering"} <= set(activities)


async def test_events_tell_a_translation_and_what_is_wrong(
    page: Page, server: BrowserServer
) -> None:
    await page.add_init_script(RECORD)
    session = await open_page(page, server, "?mode=translation")
    await session.send(said("Ja"), meant("Yes"), segment(1))
    await expect(page.locator(".passage[data-status=done]")).to_have_count(1)
    last = (await told(page, "translation"))[-1]
    assert last == {
        "passageId": "passage-1", "source": "Ja", "text": "Yes", "language": "en", "final": True,
    }  # fmt: skip
    await session.close(CLOSE_POLICY, "the longest time is over")
    await expect(page.get_by_role("alert").filter(visible=True)).to_have_count(1)
    (failure,) = await told(page, "failure")
    assert failure["code"] == "session-ended"
    assert failure["message"].startswith("The server ended this session")


async def test_methods_do_what_the_buttons_do(page: Page, server: BrowserServer) -> None:
    await page.add_init_script(RECORD)
    session = await open_page(page, server, "")
    agent = page.locator("voice-agent")
    assert await agent.evaluate("(agent) => agent.start()") is True
    await session.until_audio(80)
    await agent.evaluate("(agent) => agent.mute()")
    await expect(page.get_by_role("status")).to_have_text("Muted")
    await agent.evaluate("(agent) => agent.unmute()")
    await expect(page.get_by_role("status")).to_have_text("Listening")
    assert await agent.evaluate("(agent) => agent.sendText('Hello')") is True
    await session.until_event("response.create")
    await session.send(*answer_begins("resp_1", "item_9"))
    await expect(page.get_by_role("status")).to_have_text("Thinking")
    await agent.evaluate("(agent) => agent.interrupt()")
    await session.until_event("response.cancel")
    await session.send(*answer_ends("resp_1", "item_9", "", status="cancelled"))
    await agent.evaluate("(agent) => agent.reset()")
    again = await server.next_session()
    await again.until_audio(80)
    assert await agent.evaluate("(agent) => agent.entries.length") == 0
    await agent.evaluate("(agent) => agent.stop()")
    await expect(page.get_by_role("status")).to_have_text("Microphone is off")
    assert await told(page, "reset") == [None]


async def test_attributes_that_change_count_at_once(
    page: Page, server: BrowserServer, complaints: list[str]
) -> None:
    session = await open_page(page, server, "")
    await page.get_by_role("button", name=START).click()
    await session.until_audio(80)
    agent = page.locator("voice-agent")
    await session.send(*answer_begins("resp_1", "item_1"),
                       server_events.text_delta("resp_1", "item_1", "Yes."))  # fmt: skip
    await expect(page.get_by_text("Yes.", exact=True)).to_be_visible()
    await agent.evaluate("(agent) => { agent.mode = 'translation'; agent.language = 'fr'; }")
    translation = await server.next_session()
    assert translation.query.translates
    # The microphone was on and stays on; the conversation is gone.
    await translation.until_audio(80)
    await expect(page.get_by_text("Yes.", exact=True)).to_be_hidden()
    await expect(target_picker(page)).to_have_value("fr")
    await agent.evaluate("(agent) => { agent.mode = 'captions'; }")
    captions = await server.next_session()
    assert captions.query.intent == "transcription"
    await captions.until_audio(80)
    await agent.evaluate("(agent) => { agent.kiosk = true; }")
    await expect(page.get_by_role("combobox")).to_have_count(0)
    assert complaints == []


SET_EARLY = """
new MutationObserver((_, observer) => {
  const agent = document.querySelector("voice-agent");
  if (!agent) return;
  observer.disconnect();
  Object.assign(agent, { mode: "translation", language: "fr", key: "a-secret" });
}).observe(document, { childList: true, subtree: true });
"""


async def test_properties_that_were_set_before_the_module_was_there_count(
    page: Page, server: BrowserServer, complaints: list[str]
) -> None:
    server.key = b"a-secret"
    await page.add_init_script(SET_EARLY)
    session = await open_page(page, server, "")
    assert session.query.translates
    await expect(target_picker(page)).to_have_value("fr")
    assert complaints == []


async def test_it_is_styled_by_parts_and_variables(page: Page, server: BrowserServer) -> None:
    await open_page(page, server, "")
    await page.evaluate(
        """
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(
          "voice-agent { --voice-agent-accent: rgb(10, 20, 30); }" +
          "voice-agent::part(activity) { text-transform: uppercase; }");
        document.adoptedStyleSheets.push(sheet);
        """
    )
    talk = page.get_by_role("button", name=START)
    await expect(talk).to_have_css("background-color", "rgb(10, 20, 30)")
    await expect(page.get_by_role("status")).to_have_css("text-transform", "uppercase")
