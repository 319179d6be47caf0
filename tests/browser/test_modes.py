"""Translation, captions, and what an integrator's page uses: attributes, events, methods."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from agent.errors import InvalidEvent
from agent.gateway.transport import CLOSE_POLICY
from agent.protocol import server_events
from tests.helpers.browser import take_picture
from tests.helpers.browser_flow import START, meant, open_page, said, segment, target_picker
from tests.helpers.browser_server import (
    BrowserServer,
    BrowserSession,
    spoken,
)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


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
        ("", "Connect one, then press the button again."),
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
    await page.context.grant_permissions([])  # a kiosk that was allowed it may need no touch
    session = await open_page(page, server, query)
    begin = "Touch to begin" if "kiosk" in query else START
    await page.get_by_role("button", name=begin).click()
    alert = page.get_by_role("alert").filter(visible=True)
    await expect(alert).to_have_text(f"No microphone was found. {sentence}")
    await expect(page.get_by_text("Typing works.")).to_have_count(0 if query else 1)
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
