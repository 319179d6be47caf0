"""From the end of speech to the first answer text on the page, over WebSocket and over WebRTC.

    python -m scripts.page_latency              the embedded engine, 10 turns over each
    python -m scripts.page_latency --stand-in   no model: what the way there and back costs
    python -m scripts.page_latency --runs 20 --url http://localhost:8080

A real Chromium plays a recording as its microphone, each time into a fresh page, by turns over one
transport and the other. The page itself tells when: the microphone's sound is looked at beside the
page's own use of it, every 5 ms; speech ends with the last loud sample before the first answer text
stands in the document. What the browser takes to give a microphone's sound to a page is not in it;
it is about the same over both transports.
Prints one JSON line:

    websocket_p50_ms, webrtc_p50_ms, difference_ms    medians, and the second less the first
    websocket_ms, webrtc_ms                           every turn, in order
    missed                                            turns that were not answered in time
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from contextlib import AsyncExitStack

from playwright.async_api import Browser

from tests.helpers.browser import chromium
from tests.helpers.server import running_server
from tests.helpers.speech import recording
from tests.helpers.talking_server import talking_server

TRANSPORTS = ("websocket", "webrtc")
PATIENCE_S = 60.0
WATCH = """
window.firstTextMs = 0;
window.lastLoudMs = 0;
window.answered = new Promise((resolve) => (window.tellAnswered = resolve));
const LOUD = 0.03;
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (constraints) => {
  const stream = await open(constraints);
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 512 });
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    if (window.firstTextMs) clearInterval(timer);
    analyser.getFloatTimeDomainData(samples);
    if (samples.some((sample) => Math.abs(sample) > LOUD)) window.lastLoudMs = performance.now();
  }, 5);
  const root = document.querySelector("voice-agent").shadowRoot;
  new MutationObserver(() => {
    const text = root.querySelector(".entry.agent .text:not(.placeholder)")?.textContent;
    if (!text || window.firstTextMs) return;
    window.firstTextMs = performance.now();
    window.tellAnswered(window.firstTextMs - window.lastLoudMs);
  }).observe(root, { subtree: true, childList: true, characterData: true, attributes: true });
  return stream;
};
"""


async def turn_ms(browser: Browser, url: str, transport: str) -> float | None:
    """One spoken turn in a page of its own; None when it was not answered in time."""
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.add_init_script(WATCH)
        await page.goto(f"{url}/?transport={transport}")
        # Over both alike: the microphone starts once there is a session.
        await page.get_by_text("Connected", exact=True).wait_for()
        await page.get_by_role("button", name="Start talking").click()
        try:
            async with asyncio.timeout(PATIENCE_S):
                spent_ms: float = await page.evaluate("window.answered")
        except TimeoutError:
            return None
        return spent_ms


async def measure(url: str, runs: int) -> dict[str, object]:
    """`runs` turns over each transport, by turns, after one over each that does not count."""
    clip = recording(at_least_s=2.5, at_most_s=4.0)  # one turn, without a pause in it
    times: dict[str, list[float]] = {transport: [] for transport in TRANSPORTS}
    missed = 0
    async with chromium(clip.path) as browser:
        for run in range(runs + 1):
            for transport in TRANSPORTS:
                spent_ms = await turn_ms(browser, url, transport)
                print(f"{run} {transport} {spent_ms}", file=sys.stderr)
                if spent_ms is None:
                    missed += 1
                elif run > 0:
                    times[transport].append(spent_ms)
    medians = {
        name: round(statistics.median(values), 1) if values else None
        for name, values in times.items()
    }
    websocket, webrtc = medians["websocket"], medians["webrtc"]
    return {
        "websocket_p50_ms": websocket,
        "webrtc_p50_ms": webrtc,
        "difference_ms": round(webrtc - websocket, 1) if websocket and webrtc else None,
        **{f"{name}_ms": [round(value) for value in values] for name, values in times.items()},
        "missed": missed,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10, help="turns over each transport")
    parser.add_argument("--stand-in", action="store_true", help="an engine without a model")
    parser.add_argument("--url", help="of a server that runs already")
    options = parser.parse_args()
    async with AsyncExitStack() as stack:
        if options.url:
            url = options.url.rstrip("/")
        elif options.stand_in:
            server = await stack.enter_async_context(talking_server())
            url = server.url.rstrip("/")
        else:
            url = stack.enter_context(running_server()).url
        print(json.dumps(await measure(url, options.runs)))


if __name__ == "__main__":
    asyncio.run(main())
