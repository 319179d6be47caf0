"""`voice-agent say`: recordings played into a server, and what came back."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from agent.client.dialogue import Dialogue, SpokenTurn
from agent.client.recording import Recording, read_recording
from agent.client.session import Event, connect
from agent.client.turns import TurnTracker
from agent.commands.render import NOTHING, describe_latency, print_rows, turn_rows
from agent.commands.server_address import ServerAddress


@dataclass(frozen=True, slots=True)
class SayOptions:
    """How recordings are played and shown.

    Attributes:
        realtime: At the speed of a microphone, or as fast as the server takes it.
        as_json: One JSON object a line for each turn instead of text for people.
        answers: Ask for answers; otherwise only what was heard is shown.
        new_session: Each recording in a session of its own.
        instructions: System prompt, or None for the server's.
        language: BCP-47 code of the speech, or None for the server's.
        gap_s: Least silence after each recording.
        timeout_s: Longest time without any sign of the server while something is due.
    """

    realtime: bool = True
    as_json: bool = False
    answers: bool = True
    new_session: bool = False
    instructions: str | None = None
    language: str | None = None
    gap_s: float = 1.0
    timeout_s: float = 60.0


def run(files: Sequence[Path], server: ServerAddress, options: SayOptions) -> int:
    """Play all files; gives the exit status: 1 when a turn failed.

    Raises:
        VoiceAgentError: A file cannot be read, or the server cannot be reached or was lost.
    """
    recordings = [read_recording(file) for file in files]
    printer = Printer(options, Console(), Console(stderr=True))
    asyncio.run(_play_all(recordings, server, options, printer))
    printer.summarise()
    return 1 if printer.failures else 0


async def _play_all(
    recordings: Sequence[Recording], server: ServerAddress, options: SayOptions, printer: Printer
) -> None:
    groups = [[one] for one in recordings] if options.new_session else [recordings]
    for group in groups:
        async with _dialogue(server, options, printer) as dialogue:
            for recording in group:
                with printer.playing(recording):
                    turns = await dialogue.say(recording)
                printer.show(recording, turns)


@asynccontextmanager
async def _dialogue(
    server: ServerAddress, options: SayOptions, printer: Printer
) -> AsyncIterator[Dialogue]:
    async with connect(
        server.url,
        api_key=server.api_key,
        session=session_settings(options),
        extensions=("timings",),
    ) as session:
        tracker = TurnTracker(transcripts=True, answers=options.answers)
        async with Dialogue(
            session,
            tracker,
            realtime=options.realtime,
            gap_s=options.gap_s,
            timeout_s=options.timeout_s,
            on_event=printer.on_event,
        ) as dialogue:
            yield dialogue


def session_settings(options: SayOptions) -> dict[str, Any]:
    """The `session` object that the options ask for."""
    audio_input: dict[str, Any] = {
        "transcription": {"language": options.language} if options.language else {}
    }
    if not options.answers:
        audio_input["turn_detection"] = {"type": "server_vad", "create_response": False}
    settings: dict[str, Any] = {"audio": {"input": audio_input}}
    if options.instructions is not None:
        settings["instructions"] = options.instructions
    return settings


class Printer:
    """Shows turns, for people or for programs.

    Attributes:
        failures: Turns that were not understood or not answered because something broke.
    """

    def __init__(self, options: SayOptions, out: Console, err: Console) -> None:
        self.failures = 0
        self._options = options
        self._out = out
        self._err = err
        self._turns = 0
        self._first_token_ms: list[float] = []

    def playing(self, recording: Recording) -> Status:
        """Show on a terminal that something goes on, until the status is left."""
        what = f"{recording.path.name} ({recording.duration_s:.1f} s)"
        return Status(f"playing {what} …", console=self._err)

    def on_event(self, event: Event) -> None:
        """Pass on what the server complains about."""
        if event["type"] == "error":
            self._warn(f"the server says: {event['error']['message']}")
        elif event["type"] == "voice_agent.session.expiring":
            self._warn(f"the session ends in {event['remaining_s']:.0f} s ({event['reason']})")

    def show(self, recording: Recording, turns: Sequence[SpokenTurn]) -> None:
        """Show the turns of one recording."""
        if not turns:
            self._warn(f"{recording.path.name}: no speech was found in this recording")
        self._turns += len(turns)
        for spoken in turns:
            if spoken.speech_end_to_first_token_ms is not None:
                self._first_token_ms.append(spoken.speech_end_to_first_token_ms)
            for problem in spoken.turn.problems:
                self.failures += 1
                self._warn(f"{recording.path.name}: {problem}")
        if self._options.as_json:
            for line in json_lines(recording, turns):
                print(json.dumps(line, ensure_ascii=False), flush=True)  # noqa: T201
        else:
            self._show_text(recording, turns)

    def summarise(self) -> None:
        """Close the output for people with the latencies over all turns."""
        values = self._first_token_ms
        if self._options.as_json or len(values) < 2:
            return
        self._out.print(
            f"{self._turns} turns; first token after the end of speech: median "
            f"{statistics.median(values):,.0f} ms, slowest {max(values):,.0f} ms",
            style="bold",
            highlight=False,
            soft_wrap=True,
        )

    def _show_text(self, recording: Recording, turns: Sequence[SpokenTurn]) -> None:
        title = f"{recording.path.name}  {recording.duration_s:.1f} s"
        self._out.print(Text(title, style="bold"), soft_wrap=True)
        if not turns:
            print_rows(self._out, [("heard", Text(NOTHING, style="dim"))])
        for spoken in turns:
            latency = describe_latency(
                spoken.speech_end_to_first_token_ms, spoken.turn_end_delay_ms, spoken.stages_ms
            )
            print_rows(
                self._out, turn_rows(spoken.turn, answers=self._options.answers, latency=latency)
            )
        self._out.print()

    def _warn(self, message: str) -> None:
        self._err.print(Text(f"warning: {message}", style="yellow"), soft_wrap=True)


def json_lines(recording: Recording, turns: Sequence[SpokenTurn]) -> list[dict[str, Any]]:
    """One object for each turn; a single empty one, turn 0, when there was no speech."""
    nothing = {
        "file": str(recording.path),
        "turn": 0,
        "transcript": "",
        "answer": "",
        "status": None,
        "turn_end_delay_ms": None,
        "speech_end_to_first_token_ms": None,
        "stages_ms": {},
    }
    return [
        nothing
        | {
            "turn": number,
            "transcript": spoken.turn.transcript,
            "answer": spoken.turn.answer.strip(),
            "status": spoken.turn.status,
            "turn_end_delay_ms": spoken.turn_end_delay_ms,
            "speech_end_to_first_token_ms": spoken.speech_end_to_first_token_ms,
            "stages_ms": spoken.stages_ms,
        }
        for number, spoken in enumerate(turns, start=1)
    ] or [nothing]
