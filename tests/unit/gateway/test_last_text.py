"""How long after speech the last text was written."""

from __future__ import annotations

import pytest

from agent.gateway import last_text
from agent.session.outputs import InterruptionReport

DELTA = {"type": "response.output_text.delta"}


class Clock:
    """Stands where the test puts it."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


def report(arrived_at: float, last_text_at: float | None = 100.0) -> InterruptionReport:
    return InterruptionReport(
        response_id="resp_1",
        position_ms=1_000,
        arrived_at=arrived_at,
        heard_at=arrived_at + 0.004,
        withheld_at=arrived_at - 0.03,
        last_text_at=last_text_at,
    )


def test_the_stages_of_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, text = Clock(), last_text.LastText()
    monkeypatch.setattr(last_text, "time", clock)
    text.note(DELTA)
    clock.now_s = 100.01
    text.written()
    clock.now_s = 100.5
    text.note({"type": "input_audio_buffer.speech_started"})
    text.written()  # not the text any more
    stages_ms = {name: 1_000 * stage_s for name, stage_s in text.stages_s(report(100.2)).items()}
    assert stages_ms == pytest.approx(
        {"heard": 4.0, "withheld": -30.0, "last_text": -190.0, "writing": 10.0}
    )


def test_an_answer_without_text_has_no_last_text() -> None:
    assert last_text.LastText().stages_s(report(100.0, None)).keys() == {"heard", "withheld"}
