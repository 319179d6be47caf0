"""What the page sends: after lost connections, before it is connected, with a button held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soxr
from playwright.async_api import Page, expect

from agent.gateway.sessions import Phase
from agent.gateway.transport import CLOSE_POLICY
from tests.helpers.browser import take_picture, take_pictures
from tests.helpers.browser_flow import RECREATED, created, kinds, open_page, send_turn
from tests.helpers.browser_server import (
    BrowserServer,
    BrowserSession,
    answer_begins,
    browser_server,
)
from tests.helpers.browser_sound import WITHOUT_PROCESSING, follow
from tests.helpers.speech import Recording

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

both_transports = pytest.mark.parametrize("transport", ["websocket", "webrtc"])


@both_transports
async def test_a_lost_connection_is_made_again_with_the_conversation(
    page: Page, server: BrowserServer, transport: str
) -> None:
    session = await open_page(page, server, f"?transport={transport}")
    await send_turn(session)
    texts = page.locator(".entry .text")
    said = ["Who was Jane Austen?", "An English novelist."]
    await expect(texts).to_have_text(said)
    for _ in range(2):
        await server.stop()
        await expect(page.get_by_text("Not connected", exact=True).first).to_be_visible()
        await server.start()
        session = await server.next_session()
        await session.until_event("conversation.item.create", count=2)
        assert created(session) == RECREATED
        assert kinds(session) == ["session.update", *["conversation.item.create"] * 2]
        await expect(texts).to_have_text([*said, "Connected again. The conversation goes on."])
    await take_picture(page, f"flow-again-{transport}")
    await page.get_by_role("textbox").fill("Where did she live?")
    await page.get_by_role("textbox").press("Enter")
    await session.until_event("response.create")
    await expect(texts.last).to_have_text("Where did she live?")


async def test_a_socket_that_is_cut_is_made_again_with_the_conversation(
    page: Page, server: BrowserServer
) -> None:
    async with cutting_proxy(server.port) as (port, cut):
        await page.goto(f"http://localhost:{port}/")
        session = await server.next_session()
        await send_turn(session)
        await expect(page.get_by_role("listitem")).to_have_count(2)
        cut()
        again = await server.next_session()
        await again.until_event("conversation.item.create", count=2)
        assert created(again) == RECREATED


async def test_a_peer_that_vanishes_is_missed_and_called_again_with_the_conversation(
    page: Page, server: BrowserServer
) -> None:
    session = await open_page(page, server, "?transport=webrtc")
    await send_turn(session)
    await expect(page.get_by_role("listitem")).to_have_count(2)
    session.vanish()
    again = await server.next_session(within_s=40.0)
    await again.until_event("conversation.item.create", count=2)
    assert created(again) == RECREATED


@asynccontextmanager
async def cutting_proxy(target_port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A proxy on a free port, and what cuts all of its connections without a goodbye."""
    writers: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target_port)
        writers.extend([writer, target_writer])
        await asyncio.gather(relay(reader, target_writer), relay(target_reader, writer))

    def cut() -> None:
        for writer in writers:
            writer.transport.abort()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy:
        yield proxy.sockets[0].getsockname()[1], cut
        cut()


async def test_what_was_not_answered_yet_is_asked_again(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await page.get_by_role("textbox").fill("Are you there?")
    await page.get_by_role("textbox").press("Enter")
    await session.until_event("response.create")
    await session.send(*answer_begins("resp_1", "item_9"))
    await expect(page.get_by_role("status")).to_have_text("Thinking")
    await server.stop()
    await expect(page.get_by_role("status")).to_have_text("Not connected")
    await server.start()
    again = await server.next_session()
    await again.until_event("response.create")
    assert [content[0]["text"] for _, _, content in created(again)] == ["Are you there?"]


@both_transports
async def test_a_conversation_that_the_server_ended_is_not_recreated(
    page: Page, server: BrowserServer, transport: str
) -> None:
    session = await open_page(page, server, f"?transport={transport}")
    await send_turn(session)
    await expect(page.get_by_role("listitem")).to_have_count(2)
    error = {"type": "invalid_request_error", "code": "session_expired", "message": "it was idle"}
    await session.send({"type": "error", "error": error})
    await session.close(CLOSE_POLICY, "it was idle")
    await expect(page.get_by_text("The server ended this session")).to_be_visible()
    await page.get_by_role("button", name="Start a new conversation").click()
    again = await server.next_session()
    await expect(page.get_by_role("listitem").last).to_contain_text("not remembered")
    assert kinds(again) == ["session.update"]


async def test_what_is_said_before_the_page_is_connected_is_sent(
    page: Page, spoken_clip: Recording
) -> None:
    await page.add_init_script(WITHOUT_PROCESSING)
    async with browser_server(phase=Phase.LOADING) as server:
        await page.goto(server.url)
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_text("it is sent as soon as")).to_be_visible()
        await page.wait_for_timeout(1500)  # a person speaks
        await take_picture(page, "flow-kept")
        server.admit()
        session = await server.next_session()
        await session.until_audio(2500)
    heard = np.frombuffer(b"".join(session.audio), dtype="<i2") / 32768
    original = soxr.resample(spoken_clip.samples(), 16_000, 24_000)
    lags_ms = [lag_ms for lag_ms in follow(heard, original) if lag_ms is not None]
    assert len(lags_ms) >= 10
    # From its start, and with no hole where the connection came. A machine that is very busy
    # loses some of the microphone's buffers of 10 ms by itself.
    assert abs(lags_ms[0]) < 250
    assert all(later - lag < 200 for lag, later in pairwise(lags_ms))


async def test_over_webrtc_it_is_said_that_nothing_is_heard_yet(page: Page) -> None:
    async with browser_server(phase=Phase.LOADING) as server:
        await page.goto(f"{server.url}?transport=webrtc")
        await expect(page.get_by_text("still loading its model")).to_be_visible()
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_text("What you say now is not sent")).to_be_visible()
        await take_picture(page, "flow-not-sent")
        server.admit()
        session = await server.next_session()
        await expect(page.get_by_role("status")).to_have_text("Listening")
        await until_sound(session)


async def until_sound(session: BrowserSession) -> None:
    """Wait for some sound that comes from now on, in any encoding."""
    await session.until_pieces(len(session.audio) + 5)


@both_transports
async def test_the_space_bar_is_held_to_talk(
    page: Page, server: BrowserServer, transport: str
) -> None:
    session = await open_page(page, server, f"?transport={transport}")
    await page.get_by_role("switch", name="Push to talk").check()
    update = await session.until_event("session.update", count=2)
    assert update["session"]["audio"]["input"]["turn_detection"] is None
    await expect(page.get_by_role("switch")).to_be_checked()
    await page.evaluate("document.activeElement.shadowRoot.activeElement.blur()")
    for turn in (1, 2):
        await page.keyboard.down("Space")
        await expect(page.get_by_role("status")).to_have_text("Hearing you")
        await until_sound(session)
        await page.wait_for_timeout(400)
        if turn == 1:
            await take_pictures(page, f"flow-held-{transport}")
        await page.keyboard.up("Space")
        await session.until_event("response.create", count=turn)
    assert kinds(session)[2:] == [
        "input_audio_buffer.clear", "input_audio_buffer.commit", "response.create",
    ] * 2  # fmt: skip
    # Between turns nothing is sent.
    await expect(page.get_by_role("status")).to_have_text("Ready")
    await take_picture(page, f"flow-ready-{transport}")
    if transport == "websocket":
        pieces = len(session.audio)
        await page.wait_for_timeout(300)
        assert len(session.audio) == pieces
    await page.get_by_role("textbox").focus()
    await page.keyboard.type("a b")  # here it is a key like others
    await expect(page.get_by_role("textbox")).to_have_value("a b")
    await page.get_by_role("switch", name="Push to talk").uncheck()
    update = await session.until_event("session.update", count=3)
    assert update["session"]["audio"]["input"]["turn_detection"] == {"type": "server_vad"}
    assert kinds(session).count("input_audio_buffer.clear") == 2


async def test_the_button_is_held_to_talk_and_interrupts(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await page.get_by_role("switch", name="Push to talk").check()
    await session.send(*answer_begins("resp_1", "item_1"))
    await expect(page.get_by_role("status")).to_have_text("Thinking")
    button = page.get_by_role("button", name="Hold to talk")
    await button.hover()
    await page.mouse.down()
    await session.until_audio(500)
    await page.mouse.move(5, 5)  # slides off, and is still held
    await page.mouse.up()
    await session.until_event("response.create")
    assert kinds(session)[2:] == [
        "response.cancel", "input_audio_buffer.clear", "input_audio_buffer.commit",
        "response.create",
    ]  # fmt: skip
    await button.press("Enter", delay=20)  # touched, not held
    await session.until_event("input_audio_buffer.clear", count=3)
    await button.dispatch_event("click")  # as a screen reader does
    await session.until_event("input_audio_buffer.clear", count=4)
    pieces = len(session.audio)
    await session.until_pieces(pieces + 15)
    await button.dispatch_event("click")
    await session.until_event("response.create", count=2)


@both_transports
async def test_the_microphone_can_be_changed_while_one_speaks(
    page: Page, server: BrowserServer, transport: str, complaints: list[str]
) -> None:
    session = await open_page(page, server, f"?transport={transport}")
    await page.get_by_role("button", name="Start talking").click()
    await expect(page.get_by_role("status")).to_have_text("Listening")
    choice = page.get_by_role("combobox", name="Microphone")
    labels = await choice.locator("option").all_text_contents()
    assert len(labels) >= 2
    await until_sound(session)
    await choice.select_option(labels[-1])
    await expect(choice.locator("option:checked")).to_have_text(labels[-1])
    await until_sound(session)
    await expect(page.get_by_role("status")).to_have_text("Listening")
    await take_picture(page, f"flow-microphones-{transport}")
    await page.reload()
    again = await server.next_session()
    await page.get_by_role("button", name="Start talking").click()
    await until_sound(again)
    shown = choice.locator("option:checked")
    await expect(shown).to_have_text(labels[-1])
    assert complaints == []


@both_transports
async def test_a_microphone_that_is_pulled_out_is_replaced_by_another(
    page: Page, server: BrowserServer, transport: str
) -> None:
    await page.add_init_script(
        """
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (constraints) =>
          (window.testStream = await open(constraints));
        """
    )
    session = await open_page(page, server, f"?transport={transport}")
    await page.get_by_role("button", name="Start talking").click()
    await until_sound(session)
    await page.evaluate("window.testStream.getTracks()[0].dispatchEvent(new Event('ended'))")
    await expect(page.get_by_text("another one is used now")).to_be_visible()
    await take_picture(page, f"flow-microphone-changed-{transport}")
    await until_sound(session)
    await expect(page.get_by_role("status")).to_have_text("Listening")
    await page.evaluate(
        """() => {
          const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
          navigator.mediaDevices.enumerateDevices = async () => [
            ...(await list()), { kind: "audioinput", deviceId: "new", label: "A new one" }];
          navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
        }"""
    )
    await expect(page.get_by_role("option", name="A new one")).to_have_count(1)


async def test_muted_silence_is_sent(page: Page, server: BrowserServer) -> None:
    session = await open_page(page, server)
    await page.get_by_role("button", name="Start talking").click()
    await session.until_audio(1000)
    assert any(any(piece) for piece in session.audio)
    await page.get_by_role("button", name="Mute").click()
    await expect(page.get_by_role("status")).to_have_text("Muted")
    await take_pictures(page, "flow-muted")
    await session.until_pieces(len(session.audio) + 10)  # what was on its way
    pieces = len(session.audio)
    await session.until_pieces(pieces + 5)
    assert not any(any(piece) for piece in session.audio[pieces:])
    await page.get_by_role("button", name="Unmute").click()
    await expect(page.get_by_role("status")).to_have_text("Listening")


async def test_the_conversation_is_copied_and_saved(
    page: Page, server: BrowserServer, tmp_path: Path
) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    session = await open_page(page, server)
    copy = page.get_by_role("button", name="Copy")
    await expect(copy).to_be_hidden()
    await send_turn(session)
    text = "You: Who was Jane Austen?\n\nAgent: An English novelist.\n"
    await copy.click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == text
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Save").click()
    saved = tmp_path / (await download.value).suggested_filename
    await (await download.value).save_as(saved)
    assert (saved.name, saved.read_text("utf-8")) == ("conversation.txt", text)
