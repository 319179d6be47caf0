"""What the page says when something is wrong, and that it gets over it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, Route, expect

from agent.engine.contract import EngineHealth
from agent.gateway.pages import web_client_folder
from agent.gateway.transport import CLOSE_POLICY
from agent.protocol import server_events
from tests.helpers.browser import chromium, take_picture, take_pictures
from tests.helpers.browser_server import BrowserServer, answer_begins, browser_server
from tests.helpers.speech import Recording

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TALK = "Start talking"

both_transports = pytest.mark.parametrize("transport", ["websocket", "webrtc"])


def alert(page: Page) -> Locator:
    """The sentence that is shown."""
    return page.get_by_role("alert").filter(visible=True)


async def test_a_model_that_has_failed_is_no_model_that_is_loading(page: Page) -> None:
    crashed = EngineHealth(ready=False, available=False, restarts=5)
    async with browser_server(health=crashed) as server:
        await page.goto(server.url)
        await expect(alert(page)).to_contain_text("model has crashed again and again")
        await expect(alert(page)).to_contain_text("log says why")
        await take_pictures(page, "page-model-crashed")
        server.admit()  # somebody mended it; the page comes back by itself
        await server.next_session()
        await expect(alert(page)).to_have_count(0)


@both_transports
async def test_a_refused_microphone_says_how_to_allow_it(
    server: BrowserServer, spoken_clip: Recording, transport: str
) -> None:
    async with chromium(spoken_clip.path, refused=True) as browser:
        page = await browser.new_page(viewport={"width": 960, "height": 720})
        await page.goto(f"{server.url}?transport={transport}")
        await server.next_session()
        await page.get_by_role("button", name=TALK).click()
        await expect(alert(page)).to_contain_text("Allow it in the site settings")
        await take_picture(page, f"page-microphone-refused-{transport}")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("NotFoundError", "No microphone was found"),
        ("NotReadableError", "another program may be using it"),
    ],
)
async def test_a_microphone_that_does_not_start_is_explained(
    page: Page, server: BrowserServer, error: str, sentence: str
) -> None:
    await page.add_init_script(
        "navigator.mediaDevices.getUserMedia = "
        f"() => Promise.reject(new DOMException('as a browser does', '{error}'));"
    )
    await page.goto(server.url)
    await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await expect(alert(page)).to_contain_text(sentence)
    await take_picture(page, f"page-microphone-{error}")


async def test_a_microphone_that_is_pulled_out_is_noticed(
    page: Page, server: BrowserServer
) -> None:
    await page.add_init_script(
        """
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (constraints) => {
          if (window.testStream) throw new DOMException('none is left', 'NotFoundError');
          return (window.testStream = await open(constraints));
        };
        """
    )
    await page.goto(server.url)
    session = await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await session.until_audio(40)
    await page.evaluate("window.testStream.getTracks()[0].dispatchEvent(new Event('ended'))")
    await expect(alert(page)).to_contain_text("The microphone was disconnected")
    await expect(page.get_by_role("button", name=TALK)).to_be_visible()
    await take_picture(page, "page-microphone-lost")


async def test_a_muted_microphone_is_noticed(page: Page, server: BrowserServer) -> None:
    await page.add_init_script(
        """
        navigator.mediaDevices.getUserMedia = async () =>
          new AudioContext().createMediaStreamDestination().stream;
        """
    )
    await page.goto(server.url)
    await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await expect(alert(page)).to_contain_text("gives no sound at all")
    await take_picture(page, "page-microphone-silent")


async def test_a_browser_without_worklets_is_told(page: Page, server: BrowserServer) -> None:
    await page.add_init_script("delete window.AudioWorkletNode")
    await page.goto(server.url)
    await expect(alert(page)).to_contain_text("it has no audio worklet")
    await take_picture(page, "page-no-worklets")


async def test_a_worklet_that_does_not_load_is_told(page: Page, tmp_path: Path) -> None:
    incomplete = tmp_path / "web_client"
    shutil.copytree(web_client_folder(), incomplete)
    (incomplete / "worklets" / "capture.js").unlink()
    async with browser_server(web_client=incomplete) as server:
        await page.goto(server.url)
        await server.next_session()
        await page.get_by_role("button", name=TALK).click()
        await expect(alert(page)).to_contain_text("a part of this page did not load")


async def test_sound_that_does_not_start_is_told(page: Page, server: BrowserServer) -> None:
    await page.add_init_script(
        "AudioContext.prototype.resume = AudioContext.prototype.close = () => new Promise(() => {})"
    )  # as Firefox does on a machine without a loudspeaker
    await page.goto(server.url)
    await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await expect(page.get_by_role("status")).to_have_text("Starting the microphone")
    await expect(alert(page)).to_contain_text("The browser does not start its sound")
    await expect(page.get_by_role("button", name=TALK)).to_be_visible()
    await take_pictures(page, "page-sound-not-started")
    # On a small screen the sentence leaves little room: the greeting is shown from its beginning.
    await page.set_viewport_size({"width": 320, "height": 600})
    log = page.get_by_role("region", name="Conversation")
    assert await log.evaluate("log => log.scrollHeight > log.clientHeight && log.scrollTop === 0")


ASKS = """
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = (constraints) =>
  new Promise((answer) => { window.allow = () => answer(open(constraints)); });
"""
PERMISSION = """
window.queried = new Promise((done) => {
  navigator.permissions.query = async () => {
    done();
    return { state: "%s" };
  };
});
"""


async def test_a_microphone_that_is_asked_for_is_waited_for(
    page: Page, server: BrowserServer
) -> None:
    await page.add_init_script(ASKS + PERMISSION % "prompt")
    await page.goto(server.url)
    await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await expect(page.get_by_role("status")).to_have_text("Asking for the microphone")
    await expect(page.get_by_text("choose “Allow” there")).to_be_visible()
    await take_pictures(page, "page-asking")
    await page.evaluate("window.allow()")
    await expect(page.get_by_role("status")).to_have_text("Listening")
    await expect(page.get_by_text("choose “Allow” there")).to_have_count(0)


async def test_a_microphone_that_is_allowed_already_is_not_asked_for(
    page: Page, server: BrowserServer
) -> None:
    await page.add_init_script(ASKS + PERMISSION % "granted")
    await page.goto(server.url)
    await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await page.evaluate("window.queried")
    await take_pictures(page, "page-starting")
    await expect(page.get_by_role("status")).to_have_text("Starting the microphone")
    await page.evaluate("window.allow()")
    await expect(page.get_by_role("status")).to_have_text("Listening")


async def test_a_page_over_plain_http_says_why_it_cannot_record(
    page: Page, server: BrowserServer
) -> None:
    await page.goto(f"http://insecure.test:{server.port}/")
    session = await server.next_session()
    await expect(alert(page)).to_contain_text("Open it over https")
    await take_picture(page, "page-insecure")
    await page.get_by_role("textbox").fill("Hello")
    await page.get_by_role("textbox").press("Enter")
    await session.until_event("response.create")


@pytest.mark.parametrize("obstacle", ["key", "full"])
async def test_that_typing_works_is_said_where_it_does(page: Page, obstacle: str) -> None:
    await page.add_init_script(
        "window.told = [];"
        "document.addEventListener('failure', ({ detail }) => told.push(detail.message));"
    )
    typing = page.get_by_text("Typing works.")
    async with (
        browser_server(key=b"key" if obstacle == "key" else None, max_sessions=1) as server,
        await page.context.browser.new_context() as first,
    ):
        if obstacle == "full":
            await (await first.new_page()).goto(server.url)
            await server.next_session()
        await page.goto(f"http://insecure.test:{server.port}/")  # has no microphone
        refusal = "asks for a key" if obstacle == "key" else "Every place on the server is taken"
        await expect(alert(page).first).to_contain_text(refusal)
        await expect(alert(page).last).to_contain_text("Open it over https")
        await expect(typing).to_have_count(0)
        await take_picture(page, f"page-insecure-{obstacle}")
        if obstacle == "key":
            await page.get_by_label("Server key").fill("key")
            await page.get_by_role("button", name="Connect").click()
        else:
            await first.close()
        await server.next_session()
        await expect(typing).to_be_visible()
        assert not any("Typing" in message for message in await page.evaluate("window.told"))


async def test_a_server_that_goes_is_missed_and_found_again(
    page: Page, server: BrowserServer
) -> None:
    await page.goto(server.url)
    session = await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await session.send(
        *answer_begins("resp_1", "item_1"),
        server_events.text_delta("resp_1", "item_1", "As I was saying"),
    )
    await expect(page.get_by_role("status")).to_have_text("Answering")

    await server.stop()
    await expect(page.get_by_role("status")).to_have_text("Not connected")
    await expect(alert(page)).to_contain_text("The server does not answer")
    await expect(page.get_by_role("listitem")).to_contain_text(["The connection was lost"])
    await expect(page.get_by_text("it is sent as soon as the page is connected")).to_be_visible()
    await take_picture(page, "page-server-gone")

    await server.start()
    again = await server.next_session()
    # The microphone was left on: what is said is heard by the new session.
    await again.until_audio(200)
    await expect(alert(page)).to_have_count(0)
    await expect(page.get_by_role("status")).to_have_text("Listening")
    await expect(page.get_by_role("listitem").last).to_contain_text("The conversation goes on")


async def test_a_network_that_is_too_slow_is_said_until_it_catches_up(
    page: Page, server: BrowserServer
) -> None:
    await page.add_init_script(
        "window.unsentBytes = 0; Object.defineProperty("
        "WebSocket.prototype, 'bufferedAmount', { get: () => window.unsentBytes });"
    )
    await page.goto(server.url)
    session = await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await session.until_audio(40)
    await page.evaluate("window.unsentBytes = 10 * 48000")  # ten seconds of sound
    await expect(alert(page)).to_contain_text("part of what you said was not sent")
    await take_pictures(page, "page-network-slow")
    await page.evaluate("window.unsentBytes = 0")
    await expect(alert(page)).to_have_count(0)


@both_transports
async def test_a_full_server_is_said_and_tried_again(page: Page, transport: str) -> None:
    async with browser_server(max_sessions=1) as server:
        async with await page.context.browser.new_context() as first:
            await (await first.new_page()).goto(server.url)
            await server.next_session()
            await page.goto(f"{server.url}?transport={transport}")
            await expect(alert(page)).to_contain_text("Every place on the server is taken")
            await expect(page.get_by_text("Next attempt in")).to_be_visible()
            await take_picture(page, f"page-server-full-{transport}")
            await page.get_by_role("button", name="Try now").click()
            await expect(alert(page)).to_contain_text("Every place on the server is taken")
        await server.next_session()
        await expect(alert(page)).to_have_count(0)


@both_transports
async def test_a_key_is_asked_for_and_kept(page: Page, transport: str) -> None:
    async with browser_server(key=b"right-key") as server:
        await page.goto(f"{server.url}?transport={transport}")
        await expect(alert(page)).to_contain_text("This server asks for a key")
        await take_picture(page, f"page-key-{transport}")
        await page.set_viewport_size({"width": 320, "height": 600})
        button = await page.get_by_role("button", name="Connect").bounding_box()
        assert button is not None
        assert button["x"] + button["width"] <= 320 - 16  # within the notice

        await page.get_by_label("Server key").fill("wrong-key")
        await page.get_by_role("button", name="Connect").click()
        await expect(alert(page)).to_contain_text("does not accept this key")
        await take_pictures(page, f"page-key-wrong-{transport}")

        if transport == "websocket":  # a header may hold more than a subprotocol
            await page.get_by_label("Server key").fill("not/a=token")
            await page.get_by_role("button", name="Connect").click()
            await expect(alert(page)).to_contain_text("cannot be sent by a browser")
            await take_picture(page, "page-key-malformed")

        await page.get_by_label("Server key").fill("right-key")
        await page.get_by_role("button", name="Connect").click()
        await server.next_session()
        await expect(page.get_by_label("Server key")).to_be_hidden()

        await page.reload()
        await server.next_session()


# Each keeps WebRTC from working in another way.
NO_WEBRTC = "delete window.RTCPeerConnection"
NO_WAY = """
const Peer = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Peer {
  constructor() {
    super({ iceTransportPolicy: "relay" });  // as behind a firewall, without a TURN server
  }
};
const wait = window.setTimeout.bind(window);
window.setTimeout = (act, ms) => wait(act, ms === 10000 ? 500 : ms);  // the time it is given
"""


@pytest.mark.parametrize("obstacle", [NO_WEBRTC, NO_WAY, "refused"])
async def test_where_webrtc_does_not_work_a_websocket_is_used(
    page: Page, server: BrowserServer, obstacle: str
) -> None:
    if obstacle == "refused":

        async def refuse(route: Route) -> None:
            error = {"code": "engine_unavailable", "message": "WebRTC is not installed"}
            await route.fulfill(status=501, json={"error": error})

        await page.route("**/v1/realtime/calls*", refuse)
    else:
        await page.add_init_script(obstacle)
    await page.goto(f"{server.url}?transport=webrtc")
    if obstacle == NO_WAY:
        await server.next_connection()  # answered, and never made
    session = await server.next_session()
    await expect(alert(page)).to_contain_text("WebRTC does not get through")
    await page.get_by_role("button", name=TALK).click()
    await session.until_audio(200)  # raw sound: no WebRTC
    await take_picture(page, "page-webrtc-blocked")


async def test_a_session_that_the_server_ends_is_not_begun_again_unasked(
    page: Page, server: BrowserServer
) -> None:
    await page.goto(server.url)
    session = await server.next_session()
    await page.get_by_role("button", name=TALK).click()
    await session.until_audio(40)
    await session.close(CLOSE_POLICY, "nothing was received for 900 s; connect again")
    await expect(alert(page)).to_contain_text("The server ended this session")
    await expect(page.get_by_role("button", name=TALK)).to_be_visible()
    await take_pictures(page, "page-session-ended")
    await page.get_by_role("button", name="Start a new conversation").click()
    await server.next_session()
    await expect(alert(page)).to_have_count(0)


async def test_an_address_that_the_server_does_not_know_is_told(
    page: Page, server: BrowserServer
) -> None:
    # The proxy hides the name it was called by: the page's origin is no longer the host.
    async with renaming_proxy("insecure.test", server.port) as port:
        await page.goto(f"http://insecure.test:{port}/")
        await expect(alert(page).first).to_contain_text("The server refuses this page")
        await expect(page.get_by_text("Typing works")).to_have_count(0)
        await expect(page.get_by_role("button", name="Try now")).to_be_visible()
        await take_picture(page, "page-server-refused")


@asynccontextmanager
async def renaming_proxy(name: str, target_port: int) -> AsyncIterator[int]:
    """A proxy on a free port that changes the `Host` header to that of its target."""

    async def relay(
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        change: Callable[[bytes], bytes],
    ) -> None:
        while data := await reader.read(65536):
            writer.write(change(data))
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target_port)
        old, new = f"Host: {name}:{port}".encode(), f"Host: localhost:{target_port}".encode()
        await asyncio.gather(
            relay(reader, target_writer, lambda data: data.replace(old, new)),
            relay(target_reader, writer, bytes),
        )

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    port: int = proxy.sockets[0].getsockname()[1]
    async with proxy:
        yield port
