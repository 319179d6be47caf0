"""What `voice-agent say` shows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from agent.client.dialogue import SpokenTurn
from agent.client.recording import Recording
from agent.client.turns import Turn
from agent.commands.say import Printer, SayOptions, session_settings

RECORDING = Recording(Path("folder/ask.wav"), np.zeros(32_000, dtype=np.float32), 16_000)


def spoken(
    transcript: str = "Who are you?",
    answer: str = " Ada. ",
    status: str | None = "completed",
    first_token_ms: float | None = 870.6,
    problems: list[str] | None = None,
) -> SpokenTurn:
    turn = Turn(
        "item_1", transcript=transcript, answer=answer, status=status, problems=problems or []
    )
    return SpokenTurn(turn, 512.3, first_token_ms, {"endpointing": 512.0, "prompt": 1049.2})


class Shown:
    """Both outputs of a printer."""

    def __init__(self, *, terminal: bool = False, **options: bool) -> None:
        self._out, self._err = io.StringIO(), io.StringIO()
        out = Console(file=self._out, force_terminal=terminal, width=60, color_system=None)
        err = Console(file=self._err, force_terminal=terminal, width=60, color_system=None)
        self.printer = Printer(SayOptions(**options), out, err)

    @property
    def out(self) -> list[str]:
        return [line.rstrip() for line in self._out.getvalue().splitlines()]

    @property
    def err(self) -> list[str]:
        return self._err.getvalue().splitlines()


def test_lines_are_not_wrapped_for_programs() -> None:
    shown = Shown()
    shown.printer.show(RECORDING, [spoken()])
    assert shown.out == [
        "ask.wav  2.0 s",
        "  heard    Who are you?",
        "  answer   Ada.",
        "  latency  first token 871 ms after the end of speech; turn over after 512 ms; "
        "in the server: endpointing 512, prompt 1,049 ms",
        "",
    ]


def test_text_wraps_beside_its_label_on_a_terminal() -> None:
    shown = Shown(terminal=True)
    shown.printer.show(RECORDING, [spoken(answer="word " * 12, first_token_ms=None)])
    assert shown.out[1:5] == [
        "  heard    Who are you?",
        "  answer   word word word word word word word word word word",
        "           word word",
        "  latency  turn over after 512 ms; in the server:",
    ]


@pytest.mark.parametrize(
    ("status", "note"),
    [
        ("cancelled", "(interrupted)"),
        ("incomplete", "(cut at the token limit)"),
        ("failed", "(failed)"),
    ],
)
def test_an_answer_that_did_not_end_by_itself_is_marked(status: str, note: str) -> None:
    shown = Shown()
    shown.printer.show(RECORDING, [spoken(status=status)])
    assert shown.out[2] == f"  answer   Ada. {note}"


def test_without_answers_there_is_no_row_for_them() -> None:
    shown = Shown(answers=False)
    shown.printer.show(RECORDING, [spoken()])
    assert [line.split()[0] for line in shown.out if line] == ["ask.wav", "heard", "latency"]


def test_no_speech_is_a_warning_and_an_empty_turn() -> None:
    text, lines = Shown(), Shown(as_json=True)
    text.printer.show(RECORDING, [])
    lines.printer.show(RECORDING, [])
    assert text.out == ["ask.wav  2.0 s", "  heard    —", ""]
    assert text.err == ["warning: ask.wav: no speech was found in this recording"]
    assert lines.err == text.err


def test_json_has_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(as_json=True)
    shown.printer.show(RECORDING, [spoken("Grüß Gott."), spoken(status="cancelled")])
    shown.printer.summarise()
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == {
        "file": "folder/ask.wav",
        "turn": 1,
        "transcript": "Grüß Gott.",
        "answer": "Ada.",
        "status": "completed",
        "turn_end_delay_ms": 512.3,
        "speech_end_to_first_token_ms": 870.6,
        "stages_ms": {"endpointing": 512.0, "prompt": 1049.2},
    }
    assert (second["turn"], second["status"]) == (2, "cancelled")


def test_the_summary_is_over_all_turns_that_were_answered() -> None:
    shown = Shown()
    for first_token_ms in (400.0, None, 1200.0, 600.0):
        shown.printer.show(RECORDING, [spoken(first_token_ms=first_token_ms)])
    shown.printer.summarise()
    assert shown.out[-1] == (
        "4 turns; first token after the end of speech: median 600 ms, slowest 1,200 ms"
    )


def test_one_turn_needs_no_summary() -> None:
    shown = Shown()
    shown.printer.show(RECORDING, [spoken()])
    before = shown.out
    shown.printer.summarise()
    assert shown.out == before


def test_failures_are_counted_and_told() -> None:
    shown = Shown()
    shown.printer.show(RECORDING, [spoken(problems=["not answered: no memory"]), spoken()])
    assert shown.printer.failures == 1
    assert shown.err == ["warning: ask.wav: not answered: no memory"]


def test_what_the_server_says_beside_is_passed_on() -> None:
    shown = Shown()
    shown.printer.on_event({"type": "error", "error": {"message": "too many [items]"}})
    shown.printer.on_event(
        {"type": "voice_agent.session.expiring", "reason": "max_session", "remaining_s": 60.0}
    )
    assert shown.err == [
        "warning: the server says: too many [items]",
        "warning: the session ends in 60 s (max_session)",
    ]
    assert shown.printer.failures == 0


def test_the_session_is_what_the_options_ask_for() -> None:
    assert session_settings(SayOptions()) == {"audio": {"input": {"transcription": {}}}}
    options = SayOptions(answers=False, language="de", instructions="Be brief.")
    assert session_settings(options) == {
        "instructions": "Be brief.",
        "audio": {
            "input": {
                "transcription": {"language": "de"},
                "turn_detection": {"type": "server_vad", "create_response": False},
            }
        },
    }
