"""`voice-agent talk`: a conversation by microphone, as live text."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from agent.audio.pcm import Samples, level_dbfs
from agent.client.microphone import Microphone, open_microphone
from agent.client.session import ClientSession, Event, connect
from agent.client.turns import Turn, TurnTracker
from agent.commands.render import as_grid, describe_latency, print_rows, turn_rows
from agent.commands.server_address import ServerAddress

_METER = " ▁▂▃▄▅▆▇█"
# A quiet room is near -60 dBFS, a close voice near -15.
_METER_FLOOR_DBFS = -60.0
_METER_TOP_DBFS = -12.0
_REFRESH_HZ = 12


@dataclass(frozen=True, slots=True)
class TalkOptions:
    """How to talk.

    Attributes:
        device: Number or part of the name of the microphone, or None for the default.
        instructions: System prompt, or None for the server's.
        language: BCP-47 code of the speech, or None for the server's.
        captions: Whether words are shown while they are spoken.
    """

    device: str | None = None
    instructions: str | None = None
    language: str | None = None
    captions: bool = False


def run(server: ServerAddress, options: TalkOptions) -> None:
    """Talk until Ctrl-C (`KeyboardInterrupt`).

    Raises:
        VoiceAgentError: There is no microphone, or the server cannot be reached or was lost.
    """
    asyncio.run(talk(server, options, Console()))


async def talk(server: ServerAddress, options: TalkOptions, console: Console) -> None:
    """Talk until cancelled, on a console of one's own; see `run`."""
    transcription = {"language": options.language} if options.language else {}
    settings: dict[str, Any] = {"audio": {"input": {"transcription": transcription}}}
    if options.instructions is not None:
        settings["instructions"] = options.instructions
    with open_microphone(options.device) as microphone:
        extensions = ("timings", "captions") if options.captions else ("timings",)
        async with connect(
            server.url, api_key=server.api_key, session=settings, extensions=extensions
        ) as session:
            console.print(Text(f"Microphone: {microphone.name}", style="dim"))
            console.print(Text("Speak; Ctrl-C ends.", style="dim"))
            view = View(console)
            with Live(get_renderable=view.render, console=console, refresh_per_second=_REFRESH_HZ):
                await _until_one_ends(_send(microphone, session, view), _receive(session, view))


async def _send(microphone: Microphone, session: ClientSession, view: View) -> None:
    async for block in microphone:
        view.hear(block)
        await session.send_audio(block, rate_hz=microphone.rate_hz)


async def _receive(session: ClientSession, view: View) -> None:
    async for event in session:
        view.receive(event)


async def _until_one_ends(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run all until the first one ends, then stop the others; raises what it raised."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class View:
    """What stands on the screen: finished turns scroll up, the present one is live."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tracker = TurnTracker(transcripts=True, answers=True)
        self._printed = 0
        self._level_dbfs = _METER_FLOOR_DBFS
        self._problem = ""

    def hear(self, block: Samples) -> None:
        """Show how loud the microphone is."""
        self._level_dbfs = level_dbfs(block)

    def receive(self, event: Event) -> None:
        """Follow the conversation."""
        if event["type"] == "error":
            self._problem = event["error"]["message"]
        elif event["type"] == "voice_agent.session.expiring":
            self._problem = f"the session ends in {event['remaining_s']:.0f} s ({event['reason']})"
        # The tracker's times are not used: the server measures.
        self._tracker.receive(event, 0.0)
        while self._live_turns and self._is_finished(self._live_turns[0]):
            self._print(self._live_turns[0])

    def render(self) -> Group:
        """The live part."""
        return Group(
            *(as_grid(_rows(turn, live=True)) for turn in self._live_turns),
            *([Text(f"  {self._problem}", style="yellow")] if self._problem else []),
            Text(f"{self._meter()} {self._state()}", style="bold"),
        )

    @property
    def _live_turns(self) -> list[Turn]:
        return self._tracker.turns[self._printed :]

    def _is_finished(self, turn: Turn) -> bool:
        """Whether nothing about the turn will change, measurements included."""
        complete = turn.over and turn.heard and turn.status is not None
        return complete and (turn.timings is not None or turn is not self._tracker.turns[-1])

    def _print(self, turn: Turn) -> None:
        print_rows(self._console, _rows(turn))
        for problem in turn.problems:
            self._console.print(Text(f"  {problem}", style="yellow"))
        self._console.print()
        self._printed += 1
        self._problem = ""

    def _state(self) -> str:
        last = self._live_turns[-1] if self._live_turns else None
        if last is None or last.status is not None:
            return "listening"
        if not last.over:
            return "hearing you"
        return "answering" if last.answer else "thinking"

    def _meter(self) -> str:
        share = (self._level_dbfs - _METER_FLOOR_DBFS) / (_METER_TOP_DBFS - _METER_FLOOR_DBFS)
        return _METER[round(min(max(share, 0.0), 1.0) * (len(_METER) - 1))]


def _rows(turn: Turn, *, live: bool = False) -> list[tuple[str, Text]]:
    latency = ""
    if turn.timings is not None:
        latency = describe_latency(
            turn.timings["speech_end_to_first_token_ms"],
            turn.timings["turn_end_delay_ms"],
            turn.timings["stages_ms"],
        )
    return turn_rows(turn, answers=True, latency=latency, live=live)
