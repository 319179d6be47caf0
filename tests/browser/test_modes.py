"""Translation, captions, and what an integrator's page uses: attributes, events, methods."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from agent.errors import InvalidEvent
from agent.gateway.transport import CLOSE_POLICY
from agent.protocol import server_events
from tests.helpers.browser import take_picture
from tests.helpers.browser_flow import open_page
from tests.helpers.browser_server import (
    BrowserServer,
    BrowserSession,
    Event,
    answer_begins,
    answer_ends,
    spoken,
)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

START = "Start talking"


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


GERMAN = [
    ("Guten Morgen zusammen.", "Good morning, everyone."),
    (" Heute sprechen wir über Übersetzung.", " Today we are talking about translation."),
]


async def translate(session: BrowserSession) -> None:
    """Two segments that are done and one that is being translated."""
    for number, (source, target) in enumerate(GERMAN):
        await session.send(said(source), meant(target), segment(number))
    await session.send(said(" Und jetzt geht es"), meant(" And now it"))


# ------------------------------------------------------------------------------- translation


async def test_a_translation_stands_in_two_columns(
    page: Page, server: BrowserServer, complaints: list[str]
) -> None:
    session = await open_page(page, server, "?mode=translation&language=es")
    assert session.query.translates
    assert session.query.extensions == {"timings"}
    updates = [event["session"] for event in session.events]
    assert updates[0] == {"audio": {"input": {"transcription": {}}}}
    await expect(target_picker(page)).to_have_value("es")
    await page.get_by_role("button", name=START).click()
    await session.until_audio(80)

    await translate(session)
    rows = page.get_by_role("list", name="Translation").get_by_role("listitem")
    await expect(rows.locator(".source")).to_have_text(
        ["Guten Morgen zusammen.", "Heute sprechen wir über Übersetzung.", "Und jetzt geht es"]
    )
    await expect(rows.locator(".target")).to_have_text(
        ["Good morning, everyone.", "Today we are talking about translation.", "And now it"]
    )
    await expect(page.get_by_role("status")).to_have_text("Translating")
    await expect(page.get_by_role("textbox")).to_have_count(0)
    await take_picture(page, "page-translation")
    left = await rows.first.locator(".source").bounding_box()
    right = await rows.first.locator(".target").bounding_box()
    assert left is not None
    assert right is not None
    assert left["x"] + left["width"] <= right["x"]
    # Once each, when it is whole: not what is still being written.
    await expect(page.locator(".announcer")).to_contain_text("Today we are talking")
    await expect(page.locator(".announcer")).not_to_contain_text("And now it")
    assert complaints == []


async def test_texts_are_only_added_to(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server, "?mode=translation")
    await session.send(said("Eins"), meant("One"))
    target = page.locator(".target")
    await expect(target).to_have_text("One")
    await target.evaluate("(node) => { window.before = node.firstChild; }")
    await session.send(meant(" two"), meant(" three"))
    await expect(target).to_have_text("One two three")
    # The same node has grown, so what somebody selects while it does stays selected.
    assert await target.evaluate("(node) => node.firstChild === window.before")


async def test_languages_change_in_the_middle(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server, "?mode=translation")
    await session.send(said("Hallo"), meant("Hello"))
    await target_picker(page).select_option("fr")
    update = await session.until_event("session.update", count=2)
    assert update["session"] == {"audio": {"output": {"language": "fr"}}}
    await page.get_by_role("combobox", name="Spoken").select_option(label="German (Deutsch)")
    update = await session.until_event("session.update", count=3)
    assert update["session"] == {"audio": {"input": {"transcription": {"language": "de"}}}}
    await page.get_by_role("combobox", name="Spoken").select_option("")
    update = await session.until_event("session.update", count=4)
    assert update["session"] == {"audio": {"input": {"transcription": {"language": None}}}}
    # What was translated is still there: it is the same session.
    await expect(page.locator(".target")).to_have_text(["Hello"])
    agent = page.locator("voice-agent")
    await expect(agent).to_have_attribute("language", "fr")


async def test_what_was_said_before_a_change_has_the_language_it_is_in(
    page: Page, server: BrowserServer
) -> None:
    session = await open_page(page, server, "?mode=translation&language=en")
    await target_picker(page).select_option("fr")
    await session.until_event("session.update", count=2)
    late = server_events.output_transcript_delta("Hello", 200, "en")
    later = server_events.output_transcript_delta(" Bonjour", 400, "fr")
    await session.send(said("Hallo"), late, segment(0), said(" Guten Tag"), later, segment(1))
    targets = page.locator(".target")
    await expect(targets).to_have_text(["Hello", "Bonjour"])
    assert [await one.get_attribute("lang") for one in await targets.all()] == ["en", "fr"]


async def test_a_model_with_one_target_says_so(page: Page, server: BrowserServer) -> None:
    server.offer_targets("en")
    session = await open_page(page, server, "?mode=translation&language=de")
    picker = target_picker(page)
    await expect(picker.get_by_role("option")).to_have_text(
        ["English", "German", "Other languages need Gemma 4"]
    )
    refused = InvalidEvent("this server's model translates into English (en) only", param="x")
    await session.send(server_events.error(refused, None))
    alert = page.get_by_role("alert").filter(visible=True)
    await expect(alert).to_contain_text("translates into English (en) only")
    await expect(
        page.get_by_text("The model of this server translates into English")
    ).to_be_visible()
    await take_picture(page, "page-translation-english-only")


async def test_a_passage_that_failed_or_was_lost_says_so(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server, "?mode=translation")
    await session.send(said("Eins"), segment(1, "failed"), said(" Zwei"))
    await expect(page.locator(".passage")).to_have_count(2)
    await session.close(CLOSE_POLICY, "the longest time is over")
    rows = page.locator(".passage .remark")
    await expect(rows).to_have_text(["This could not be translated", "The connection was lost"])


async def test_a_narrow_dark_translation_has_one_column(
    page: Page, server: BrowserServer, complaints: list[str]
) -> None:
    await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    await page.set_viewport_size({"width": 320, "height": 640})
    session = await open_page(page, server, "?mode=translation")
    await translate(session)
    await expect(page.locator(".passage")).to_have_count(3)
    await take_picture(page, "page-translation-narrow-dark")
    widths = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    assert complaints == []


# ---------------------------------------------------------------------------------- captions


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_captions_grow_while_somebody_speaks(
    page: Page, server: BrowserServer, complaints: list[str], scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme)
    session = await open_page(page, server, "?mode=captions&language=de")
    assert session.query.intent == "transcription"
    update = await session.until_event("session.update", count=2)
    assert update["session"]["audio"]["input"]["transcription"] == {"language": "de"}
    await session.send(
        server_events.speech_started("item_1", 0),
        *spoken("item_1", 0, 1000),
        server_events.transcription_completed("item_1", "Meine Damen und Herren.", 1.0),
        server_events.speech_started("item_2", 2000),
        server_events.transcription_delta("item_2", "Willkommen"),
    )
    words = page.locator(".entry .text")
    await expect(words.last).to_have_text("Willkommen")
    await expect(page.get_by_role("status")).to_have_text("Hearing you")
    await session.send(server_events.transcription_delta("item_2", " zu diesem Abend"))
    await expect(words).to_have_text(["Meine Damen und Herren.", "Willkommen zu diesem Abend"])
    await expect(page.get_by_role("textbox")).to_have_count(0)
    await take_picture(page, f"page-captions-{scheme}")
    await session.send(
        *spoken("item_2", 2000, 4000),
        server_events.transcription_completed("item_2", "Willkommen zu diesem Abend!", 2.0),
    )
    await expect(words.last).to_have_text("Willkommen zu diesem Abend!")
    assert complaints == []


async def test_captions_go_on_after_a_lost_connection_and_are_saved_as_such(
    page: Page, server: BrowserServer
) -> None:
    session = await open_page(page, server, "?mode=captions")
    await session.send(
        *spoken("item_1", 0, 1000),
        server_events.transcription_completed("item_1", "Meine Damen und Herren.", 1.0),
    )
    texts = page.locator(".entry .text")
    await expect(texts).to_have_text(["Meine Damen und Herren."])
    await server.stop()
    await expect(page.get_by_text("Not connected", exact=True).first).to_be_visible()
    await server.start()
    again = await server.next_session()
    await expect(texts).to_have_text(
        ["Meine Damen und Herren.", "Connected again. The captions go on."]
    )
    await take_picture(page, "page-captions-again")
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Save").click()
    saved = await download.value
    assert saved.suggested_filename == "captions.txt"
    assert (await saved.path()).read_text("utf-8") == "Meine Damen und Herren.\n"
    await again.close(CLOSE_POLICY, "the longest time is over")
    await page.get_by_role("button", name="Start again").click()
    await server.next_session()
    await expect(texts.last).to_have_text("New captions begin here.")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "Connect one, then press the button again. Typing works."),
        ("?mode=captions", "Connect one, then press the button again."),
        ("?kiosk", "Connect one: this page goes on by itself."),
    ],
)
async def test_no_mode_tells_of_what_it_does_not_have(
    page: Page, server: BrowserServer, query: str, sentence: str
) -> None:
    await page.add_init_script(
        "navigator.mediaDevices.getUserMedia = "
        "() => Promise.reject(new DOMException('as a browser does', 'NotFoundError'));"
    )
    session = await open_page(page, server, query)
    begin = "Touch to begin" if "kiosk" in query else START
    await page.get_by_role("button", name=begin).click()
    alert = page.get_by_role("alert").filter(visible=True)
    await expect(alert).to_have_text(f"No microphone was found. {sentence}")
    await session.send(server_events.session_expiring("idle", 60.0))
    what = "Say something" if query else "Say or type something"
    await expect(alert.last).to_contain_text(f"{what} to keep it.")


async def test_words_of_a_conversation_are_shown_while_they_are_spoken(
    page: Page, server: BrowserServer
) -> None:
    session = await open_page(page, server, "")
    await session.send(
        server_events.speech_started("item_1", 0),
        server_events.transcription_delta("item_1", "Who was"),
    )
    await expect(page.locator(".entry.user .text")).to_have_text("Who was")
    await expect(page.get_by_role("status")).to_have_text("Hearing you")
    await take_picture(page, "page-hearing-words")


# ----------------------------------------------------------------------- for the integrator

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
