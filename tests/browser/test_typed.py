"""What is typed is shown at once and sent when there is a session."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent
from playwright.async_api import Page, expect
from pydantic import TypeAdapter

from agent.gateway.sessions import Phase
from agent.protocol import server_events
from tests.helpers.browser import resize, take_picture, take_pictures
from tests.helpers.browser_flow import created, kinds, open_page, send_turn
from tests.helpers.browser_server import BrowserServer, Event, browser_server

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_what_is_typed_while_there_is_no_connection_waits_for_it(
    page: Page, server: BrowserServer, transport: str
) -> None:
    session = await open_page(page, server, f"?transport={transport}")
    await send_turn(session)
    said = ["Who was Jane Austen?", "An English novelist."]
    texts = page.locator(".entry .text")
    await expect(texts).to_have_text(said)
    await server.stop()
    await expect(page.get_by_text("Not connected", exact=True).first).to_be_visible()
    typed = ["Where did she live?", "And when?"]
    for text in typed:
        await page.get_by_role("textbox").fill(text)
        await page.get_by_role("textbox").press("Enter")
    await expect(page.get_by_role("textbox")).to_have_value("")
    await expect(texts).to_have_text([*said, *typed])
    remarks = page.locator(".remark").filter(visible=True)
    await expect(remarks).to_have_text(["Not sent yet: it is sent once the page is connected"] * 2)
    await take_pictures(page, f"flow-waiting-{transport}")
    for width in (320, 960, 320):  # a phone is turned; nobody has scrolled
        await resize(page, {"width": width, "height": 600})
        await expect(remarks.last).to_be_in_viewport(ratio=1)
    await server.start()
    again = await server.next_session()
    await again.until_event("response.create")
    # In one conversation, and answered once.
    assert [content[0]["text"] for _, _, content in created(again)] == [*said, *typed]
    assert kinds(again) == [
        "session.update", *["conversation.item.create"] * 4, "response.create",
    ]  # fmt: skip
    await expect(remarks).to_have_count(0)
    await expect(texts).to_have_text([*said, "Connected again. The conversation goes on.", *typed])
    await expect(page.locator(".entry.user").last).to_have_attribute("data-status", "done")
    last = "document.querySelector('voice-agent').entries.at(-1)"
    assert await page.evaluate(f"{last}.status") == "done"


# Counts the pieces of sound that wait on a page.
COUNT = """async () => {
  const { Outbox } = await import("/outbox.js");
  const { push } = Outbox.prototype;
  window.pieces = 0;
  Outbox.prototype.push = function (what) {
    if (what instanceof ArrayBuffer) window.pieces += 1;
    push.call(this, what);
  };
}"""


async def until_sound_waits(page: Page) -> int:
    """Wait until ten more pieces wait; gives how many did before."""
    before: int = await page.evaluate("window.pieces")
    while await page.evaluate("window.pieces") < before + 10:
        await page.wait_for_timeout(20)
    return before


async def test_what_is_typed_after_one_spoke_is_sent_after_the_sound(page: Page) -> None:
    async with browser_server(phase=Phase.LOADING) as server:
        await page.goto(server.url)
        await page.evaluate(COUNT)
        textbox = page.get_by_role("textbox")
        await textbox.fill("First")
        await textbox.press("Enter")
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_text("it is sent as soon as")).to_be_visible()
        await until_sound_waits(page)
        await textbox.fill("Second")
        await textbox.press("Enter")
        before = await until_sound_waits(page)
        server.admit()
        session = await server.next_session()
        await session.until_event("response.create", count=2)
        await session.until_pieces(before + 10)
    received = [kind for kind, _ in groupby(session.received)]
    assert received == [
        "session.update",
        "conversation.item.create", "response.create",
        "sound", "response.cancel", "conversation.item.create", "response.create",
        "sound",
    ]  # fmt: skip
    assert [content[0]["text"] for _, _, content in created(session)] == ["First", "Second"]


async def test_a_message_that_the_server_does_not_take_says_so(
    page: Page, server: BrowserServer
) -> None:
    session = await open_page(page, server)
    session.takes_items = False
    await page.get_by_role("textbox").fill("Hello")
    await page.get_by_role("textbox").press("Enter")
    await session.until_event("response.create")
    message = page.get_by_role("listitem")
    await expect(message).to_contain_text("The server did not take this: items are full")
    await take_picture(page, "flow-message-refused")
    await server.stop()
    await server.start()
    again = await server.next_session()
    assert created(again) == []


TYPED = """async (steps) => {
  const { INITIAL, addTyped, disconnect, reduce } = await import("/session.js");
  const { recreateEvents } = await import("/transcript.js");
  const { waitingEvents } = await import("/typed.js");
  let state = INITIAL;
  for (const step of steps) {
    if (step === null) state = disconnect(state);
    else if (typeof step === "string") state = addTyped(state, step, `text of ${step}`);
    else state = reduce(state, step, 0);
  }
  const ids = (events) => events.map(({ item }) => item.id);
  return { state, waiting: waitingEvents(state.entries), told: ids(recreateEvents(state.entries)) };
}"""


def _has_item(item_id: str) -> Event:
    content = [{"type": "input_text", "text": f"text of {item_id}"}]
    item = {"id": item_id, "type": "message", "role": "user", "content": content}
    return server_events.item_added(item, None)


def _refuses(event_id: str) -> Event:
    return {"type": "error", "error": {"code": "x", "message": "no", "event_id": event_id}}


async def test_what_is_typed_waits_until_the_server_has_it(modules: Page) -> None:
    steps = ["a", "b", "c", _has_item("a"), _refuses("b"), None, server_events.session_created({})]
    result = await modules.evaluate(TYPED, steps)
    assert [(entry["id"], entry["status"]) for entry in result["state"]["entries"]] == [
        ("a", "done"), ("b", "refused"), ("conversation-1", "done"), ("c", "waiting"),
    ]  # fmt: skip
    assert result["told"] == ["a"]
    assert result["state"]["error"] == ""  # said at the message
    (event,) = result["waiting"]
    TypeAdapter(RealtimeClientEvent).validate_python(event)
    assert (event["event_id"], event["item"]["id"]) == ("c", "c")
    assert event["item"]["content"] == [{"type": "input_text", "text": "text of c"}]


async def test_what_the_server_reports_stands_before_what_it_does_not_have(modules: Page) -> None:
    steps = ["a", server_events.speech_started("x", 0), "b", server_events.speech_started("y", 0)]
    result = await modules.evaluate(TYPED, steps)
    assert [entry["id"] for entry in result["state"]["entries"]] == ["x", "y", "a", "b"]


@given(
    steps=st.lists(
        st.one_of(
            st.none(),
            st.just(server_events.session_created({})),
            st.builds(_has_item, st.sampled_from("abc")),
            st.builds(_refuses, st.sampled_from("abc")),
            st.builds(lambda item: server_events.speech_started(item, 0), st.sampled_from("xy")),
        ),
        max_size=20,
    ),
    at=st.lists(st.integers(0, 20), min_size=3, max_size=3),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_what_is_typed_is_neither_lost_nor_told_twice(
    modules: Page, steps: list[Event | None], at: list[int]
) -> None:
    mixed: list[Event | str | None] = list(steps)
    for name, place in zip("abc", sorted(at, reverse=True), strict=True):
        mixed.insert(place, name)
    result = await modules.evaluate(TYPED, mixed)
    entries = {entry["id"]: entry["status"] for entry in result["state"]["entries"]}
    waiting = [event["item"]["id"] for event in result["waiting"]]
    for name in "abc":
        status = entries[name]
        assert (name in waiting) == (status == "waiting")
        assert (name in result["told"]) == (status == "done")
        settled = [
            step for step in mixed[mixed.index(name) :]
            if step in (_has_item(name), _refuses(name))
        ]  # fmt: skip
        if not settled and _has_item(name) not in mixed:
            assert status == "waiting"


# A conversation over connections that are made and lost as told. Gives the numbers of what was
# spoken and typed, in the order in which each session got it.
TALK = """async (steps) => {
  const { Conversation } = await import("/conversation.js");
  const nothing = () => {};
  const handlers = { onChange: nothing, onStatus: nothing, onState: nothing };
  const conversation = new Conversation(new URL(location.href), "websocket", handlers);
  const { connection } = conversation;
  const sessions = [];
  let unsentAudioMs = 0;
  const become = (state, transport) => {
    connection.transport = transport;
    connection.status = { state, failure: null, retryAtMs: null };
    connection.handlers.onStatus(connection.status);
  };
  const receive = (event) => connection.handlers.onEvent(event);
  const does = {
    speak: (number) => conversation.hear(new Uint32Array(480).fill(number).buffer),
    type: (number) => conversation.sendText(String(number)),
    open: () => {
      const got = [];
      sessions.push(got);
      become("open", {
        sendAudio: (pcm) => got.push(["spoken", new Uint32Array(pcm)[0]]),
        sendEvent: ({ type, item }) =>
          got.push(item ? ["typed", Number(item.content[0].text), item] : [type]),
        unsentAudioMs: () => unsentAudioMs,
        useMicrophone: nothing,
      });
      receive({ type: "session.created", session: { type: "realtime" } });
    },
    ready: () => receive({ type: "session.updated", session: { type: "realtime" } }),
    confirm: () => {
      for (const [, , item] of sessions.at(-1).filter(([kind]) => kind === "typed"))
        receive({ type: "conversation.item.added", item });
    },
    lose: () => become("waiting", null),
    slow: () => (unsentAudioMs = 6000),
    quick: () => (unsentAudioMs = 0),
  };
  steps.forEach((step, number) => does[step](number));
  return sessions;
}"""


@st.composite
def talks(draw: st.DrawFn) -> list[str]:
    """What happens on a page, in an order that can be; at the end it is connected."""
    steps: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        said = st.lists(st.sampled_from(["speak", "type", "slow", "quick"]), max_size=6)
        steps += draw(said)
        steps += ["open", *draw(said)]
        if draw(st.booleans()):
            steps += ["ready", *draw(said), *draw(st.sampled_from([[], ["confirm"]])), *draw(said)]
        steps.append("lose")
    return [*steps, "quick", "open", "ready"]


@given(steps=talks())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_what_is_typed_keeps_its_place_among_what_is_spoken(
    modules: Page, steps: list[str]
) -> None:
    sessions = await modules.evaluate(TALK, steps)
    told: set[int] = set()
    for got in sessions:
        typed = [entry[1] for entry in got if entry[0] == "typed"]
        assert len(typed) == len(set(typed))
        # What an earlier session had got already is told again before all that is new.
        new = [entry[1] for entry in got if len(entry) > 1 and entry[1] not in told]
        assert new == sorted(new)
        is_asked = [entry[0] == "response.create" for entry in got if entry[0] != "spoken"]
        assert is_asked[-1] or not set(new).intersection(typed)
        told.update(new)
    assert {number for number, step in enumerate(steps) if step == "type"} <= told
