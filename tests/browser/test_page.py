"""The page in a real Chromium: what it shows, what it sends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soxr
from playwright.async_api import Page, expect

from agent.gateway.sessions import Phase
from agent.protocol import server_events
from tests.helpers.browser import take_picture, take_pictures
from tests.helpers.browser_flow import open_page
from tests.helpers.browser_server import (
    BrowserServer,
    answer_begins,
    answer_ends,
    browser_server,
    spoken,
)
from tests.helpers.browser_sound import PIECE_BYTES, WITHOUT_PROCESSING, follow
from tests.helpers.speech import Recording

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def start_microphone(page: Page) -> None:
    await page.get_by_role("button", name="Start talking").click()
    await expect(page.get_by_role("status")).to_have_text("Listening")


async def test_it_loads_without_a_complaint_and_sets_its_session_up(
    page: Page, server: BrowserServer, complaints: list[str]
) -> None:
    session = await open_page(page, server)
    await take_picture(page, "page-idle")
    update = await session.until_event("session.update")
    assert update["session"]["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "transcription": {},
    }
    assert session.query.extensions == {"timings", "captions"}
    await expect(page.get_by_role("status")).to_have_text("Microphone is off")
    assert complaints == []


MAX_SLIPS = 3


async def test_microphone_pieces_are_the_recording(
    page: Page, server: BrowserServer, complaints: list[str], spoken_clip: Recording
) -> None:
    await page.add_init_script(WITHOUT_PROCESSING)
    session = await open_page(page, server)
    await start_microphone(page)
    await session.until_audio(2500)
    assert (await page.evaluate("window.asked"))["audio"] == {
        "channelCount": 1,
        "echoCancellation": True,
        "noiseSuppression": True,
        "autoGainControl": True,
    }
    meter = page.get_by_role("meter", name="Microphone level")
    await expect(meter).not_to_have_attribute("aria-valuenow", "0")
    await take_picture(page, "page-listening")
    assert {len(piece) for piece in session.audio} == {PIECE_BYTES}

    heard = np.frombuffer(b"".join(session.audio), dtype="<i2") / 32768
    original = soxr.resample(spoken_clip.samples(), 16_000, 24_000)
    lags_ms = follow(heard, original)
    # Chromium's microphone falls behind now and then and puts in one of its buffers of 10 ms;
    # the window in which it does so is not found as a whole.
    found_ms = [lag_ms for lag_ms in lags_ms if lag_ms is not None]
    assert len(found_ms) >= 10
    assert len(lags_ms) - len(found_ms) <= MAX_SLIPS
    slips_ms = [later - lag for lag, later in pairwise(found_ms) if later != lag]
    assert len(slips_ms) <= MAX_SLIPS
    # Put in, never left out: nothing of the recording is missing. At a rate 1 % off the lag
    # would change by 1 ms in every window.
    assert [round(slip_ms / 10) * 10 for slip_ms in slips_ms] == pytest.approx(slips_ms, abs=0.1)
    assert all(slip_ms < 0 for slip_ms in slips_ms)
    assert complaints == []


async def test_stopping_the_microphone_stops_the_sound(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await start_microphone(page)
    await session.until_audio(200)
    await page.get_by_role("button", name="Stop the microphone").click()
    await expect(page.get_by_role("status")).to_have_text("Microphone is off")
    # Pieces arrive in order with events: nothing but this message comes after the stop.
    await page.get_by_role("textbox").fill("Hello")
    await page.get_by_role("textbox").press("Enter")
    await session.until_event("response.create")
    pieces = len(session.audio)
    await page.get_by_role("textbox").fill("Are you there?")
    await page.get_by_role("textbox").press("Enter")
    await session.until_event("response.create", count=2)
    assert len(session.audio) == pieces


async def test_a_spoken_turn_is_shown_as_it_happens(
    page: Page, server: BrowserServer, complaints: list[str]
) -> None:
    session = await open_page(page, server)
    await start_microphone(page)
    status = page.get_by_role("status")
    entries = page.get_by_role("listitem")

    await session.send(server_events.speech_started("item_1", 320))
    await expect(status).to_have_text("Hearing you")
    await expect(entries).to_contain_text(["Speaking"])
    await take_picture(page, "page-hearing")

    await session.send(*spoken("item_1", 320, 2400))
    await expect(status).to_have_text("Thinking")
    await expect(entries).to_contain_text(["Recognising"])
    await take_picture(page, "page-thinking")

    await session.send(
        server_events.transcription_completed("item_1", " Who was Jane Austen? ", 2.0),
        *answer_begins("resp_1", "item_2"),
        server_events.text_delta("resp_1", "item_2", "An English "),
    )
    await expect(status).to_have_text("Answering")
    await expect(entries.locator(".text")).to_have_text(["Who was Jane Austen?", "An English "])
    await take_picture(page, "page-answering")

    await session.send(
        server_events.text_delta("resp_1", "item_2", "novelist."),
        *answer_ends("resp_1", "item_2", "An English novelist."),
    )
    await expect(status).to_have_text("Listening")
    await expect(entries.last).to_contain_text("after the end of your turn, measured in this page")
    announced = page.locator(".announcer")
    await expect(announced).to_contain_text("You: Who was Jane Austen?")
    await expect(announced).to_contain_text("Agent: An English novelist.")

    await session.send(
        server_events.turn_timings(
            item_id="item_1", response_id="resp_1", speech_end_ms=1900, turn_end_delay_ms=510.0,
            speech_end_to_first_token_ms=834.0, stages_ms={"endpointing": 510.0, "prompt": 324.0},
        )
    )  # fmt: skip
    latency = entries.last.locator("summary")
    await expect(latency).to_have_text("First word 0.83 s after you stopped speaking")
    await latency.click()
    await expect(entries.last.get_by_text("324 ms")).to_be_visible()
    assert complaints == []


async def test_an_interrupted_answer_is_marked(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await session.send(
        *answer_begins("resp_1", "item_1"),
        server_events.text_delta("resp_1", "item_1", "Once upon a time"),
        server_events.speech_started("item_2", 5000),
        *answer_ends(
            "resp_1", "item_1", "Once upon a time", status="cancelled", reason="turn_detected"
        ),
    )
    cut = page.get_by_role("listitem").first
    await expect(cut).to_contain_text("Once upon a time")
    await expect(cut).to_contain_text("Interrupted by you")
    await take_picture(page, "page-interrupted")


async def test_an_answer_can_be_stopped(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await session.send(
        *answer_begins("resp_1", "item_1"),
        server_events.text_delta("resp_1", "item_1", "Well, that is a long"),
    )
    await page.get_by_role("button", name="Stop answer").click()
    await session.until_event("response.cancel")
    await session.send(
        *answer_ends("resp_1", "item_1", "Well, that is a long",
                     status="cancelled", reason="client_cancelled")
    )  # fmt: skip
    await expect(page.get_by_role("listitem")).to_contain_text(["Stopped by you"])
    await expect(page.get_by_role("button", name="Stop answer")).to_be_hidden()


async def test_a_failed_answer_says_why(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await session.send(
        *answer_begins("resp_1", "item_1"),
        *answer_ends("resp_1", "item_1", "", status="failed", reason="the engine has gone"),
    )
    await expect(page.get_by_role("listitem")).to_contain_text(
        ["The answer failed: the engine has gone"]
    )
    await take_picture(page, "page-answer-failed")


async def test_typing_sends_a_message_and_asks_for_an_answer(
    page: Page, server: BrowserServer
) -> None:
    session = await open_page(page, server)
    text = "<b>Two</b> & two?"
    await page.get_by_role("textbox", name="Type a message").fill(text)
    await page.get_by_role("button", name="Send").click()
    created = await session.until_event("conversation.item.create")
    await session.until_event("response.create")
    assert created["item"]["content"] == [{"type": "input_text", "text": text}]
    # As text, not as markup.
    await expect(page.get_by_role("listitem").locator(".text")).to_have_text([text])
    await expect(page.get_by_role("textbox")).to_have_value("")
    assert await page.get_by_role("listitem").locator("b").count() == 0


async def test_typing_during_an_answer_ends_it_first(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await session.send(*answer_begins("resp_1", "item_1"))
    await expect(page.get_by_role("status")).to_have_text("Thinking")
    await page.get_by_role("textbox").fill("Something else")
    await page.get_by_role("textbox").press("Enter")
    await session.until_event("response.create")
    kinds = [event["type"] for event in session.events]
    assert kinds[-3:] == ["response.cancel", "conversation.item.create", "response.create"]


async def test_what_the_server_complains_about_is_shown(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await session.send(
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "code": "x", "message": "items are full"},
        }
    )
    await expect(page.get_by_role("alert").filter(visible=True)).to_have_text("items are full")
    await take_picture(page, "page-server-error")


async def test_the_note_about_the_engine_is_shown(page: Page) -> None:
    note = "Demo quality. For Gemma 4 run: voice-agent models pull gemma-4"
    async with browser_server(note=note) as server:
        await open_page(page, server)
        await expect(page.get_by_text(note)).to_be_visible()
        await take_pictures(page, "page-note")


async def test_a_connection_that_is_on_its_way_is_shown(page: Page, server: BrowserServer) -> None:
    await page.route_web_socket("**/v1/realtime*", lambda socket: None)  # opens, and says nothing
    await page.goto(server.url)
    await expect(page.get_by_text("Connecting", exact=True)).to_be_visible()
    await take_pictures(page, "page-connecting")


async def test_an_end_that_is_announced_is_shown(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await session.send(server_events.session_expiring("idle", 60.0))
    alert = page.get_by_role("alert").filter(visible=True)
    await expect(alert).to_contain_text("in about 60 s, because nothing was said")
    await take_picture(page, "page-session-expiring")


async def test_it_is_usable_on_a_narrow_dark_screen_with_a_keyboard_only(
    page: Page, server: BrowserServer, complaints: list[str]
) -> None:
    await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    await page.set_viewport_size({"width": 320, "height": 600})
    session = await open_page(page, server)
    await page.get_by_role("button", name="Start talking").focus()
    await page.keyboard.press("Enter")
    await session.until_audio(80)
    long_word = "Donaudampfschifffahrtsgesellschaft" * 3
    await session.send(
        *answer_begins("resp_1", "item_1"),
        server_events.text_delta("resp_1", "item_1", f"{long_word} and more of it"),
    )
    await expect(page.get_by_role("status")).to_have_text("Answering")
    await take_picture(page, "page-narrow-dark")
    widths = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    await page.keyboard.press("Escape")
    await session.until_event("response.cancel")
    assert complaints == []


async def test_a_model_that_is_loading_is_waited_for(page: Page) -> None:
    async with browser_server(phase=Phase.LOADING) as server:
        await page.goto(server.url)
        alert = page.get_by_role("alert").filter(visible=True)
        await expect(alert).to_contain_text("The server is still loading its model")
        await take_pictures(page, "page-model-loading")
        server.admit()
        await server.next_session()
        await expect(alert).to_have_count(0)
