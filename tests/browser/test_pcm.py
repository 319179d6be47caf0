"""The page's sound as numbers: PCM and the resampler, run in the browser without the page."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from playwright.async_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_pcm16_rounds_and_clips(modules: Page) -> None:
    pcm = await modules.evaluate(
        """async (samples) => {
          const { toPcm16 } = await import("/pcm.js");
          return [...new Int16Array(toPcm16(Float32Array.from(samples)))];
        }""",
        [0, 0.5, -0.5, 1, -1, 7, -7, 1.6 / 32768],
    )
    assert pcm == [0, 16384, -16384, 32767, -32768, 32767, -32768, 2]


RESAMPLE = """async ([samples, fromHz, sizes]) => {
  const { Resampler } = await import("/pcm.js");
  const resampler = new Resampler(fromHz, 24000);
  const output = [];
  let start = 0;
  for (const size of sizes) {
    output.push(...resampler.process(Float32Array.from(samples.slice(start, start + size))));
    start += size;
  }
  return output;
}"""


@pytest.mark.parametrize("from_hz", [16_000, 44_100, 48_000, 96_000])
async def test_resampling_is_seamless_and_keeps_the_sound(modules: Page, from_hz: int) -> None:
    rng = np.random.default_rng(7)
    times = np.arange(from_hz // 2) / from_hz
    tones = sum(np.sin(2 * np.pi * hz * times + hz) for hz in (200, 1000, 3000, 6500)) / 5
    sizes = rng.integers(1, 2000, 100)
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), len(tones)))]
    output = np.array(
        await modules.evaluate(RESAMPLE, [tones.tolist(), from_hz, [int(n) for n in sizes]])
    )
    reference = soxr.resample(tones, from_hz, 24_000, quality="VHQ")[: len(output)]
    middle = slice(1000, len(output) - 1000)
    assert len(output) > 0.9 * 24_000 * sum(sizes) / from_hz
    assert np.max(np.abs(output[middle] - reference[middle])) < 2e-3


@pytest.mark.parametrize("from_hz", [44_100, 48_000])
async def test_what_the_wire_cannot_carry_is_filtered_out(modules: Page, from_hz: int) -> None:
    times = np.arange(from_hz // 4) / from_hz
    tone = np.sin(2 * np.pi * 15_000 * times)  # would come back as 9 kHz
    output = np.array(await modules.evaluate(RESAMPLE, [tone.tolist(), from_hz, [len(tone)]]))
    assert np.max(np.abs(output[200:])) < 1e-3
