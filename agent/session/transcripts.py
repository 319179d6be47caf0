"""Transcripts of spoken items: deltas, then one final `completed` (or `failed`) per item.

The deltas of an item, live captions included, only ever grow. Joined they are the transcript
of `completed`, except where that says otherwise about words that were shown before the turn
was over: it is the better text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.protocol import server_events
from agent.session.commands import BranchPurpose, DeleteItem, StartBranch
from agent.session.conversation import History
from agent.session.items import Item, TextPart
from agent.session.outbox import NewId, Outbox
from agent.session.tokens import BranchEnded, BranchFailed, BranchText, TokenEvent
from agent.turns.agreement import Agreement


@dataclass(slots=True)
class _Transcript:
    item_id: str
    audio_s: float
    shown: Agreement
    then_delete: bool
    text: str = ""


class Transcripts:
    """The transcripts being made for one session.

    Args:
        history: Spoken items get their transcript here.
        outbox: Where events and commands go.
        new_id: Makes branch ids.
    """

    def __init__(self, history: History, outbox: Outbox, new_id: NewId) -> None:
        self._history = history
        self._outbox = outbox
        self._new_id = new_id
        self._by_branch: dict[str, _Transcript] = {}

    def start(
        self, item_id: str, audio_s: float, shown: Agreement, *, then_delete: bool = False
    ) -> None:
        """Have a committed item transcribed, beside its answer.

        Args:
            item_id: The item.
            audio_s: Seconds of it.
            shown: What live captions have shown of it.
            then_delete: Whether the engine needs it for nothing else.
        """
        branch_id = self._new_id("branch")
        self._by_branch[branch_id] = _Transcript(item_id, audio_s, shown, then_delete)
        self._outbox.put(StartBranch(branch_id, BranchPurpose.TRANSCRIPT, item_id=item_id))

    def receive(self, event: TokenEvent) -> bool:
        """Take what a branch gave; False when it is none of these."""
        transcript = self._by_branch.get(event.branch_id)
        if transcript is None:
            return False
        match event:
            case BranchText(text=text):
                transcript.text += text
                self._show(transcript, transcript.shown.follow(transcript.text))
            case BranchEnded():
                del self._by_branch[event.branch_id]
                self._complete(transcript)
            case BranchFailed(code=code, message=message):
                del self._by_branch[event.branch_id]
                self._outbox.send(
                    server_events.transcription_failed(transcript.item_id, code, message)
                )
        if transcript.then_delete and event.branch_id not in self._by_branch:
            self._outbox.put(DeleteItem(transcript.item_id))
        return True

    def _complete(self, transcript: _Transcript) -> None:
        text = transcript.text.strip()
        item = self._history.find(transcript.item_id)
        if item is not None:  # the client may have deleted it in the meantime
            self._history.replace(_with_transcript(item, text))
        self._show(transcript, transcript.shown.finish(text))
        self._outbox.send(
            server_events.transcription_completed(transcript.item_id, text, transcript.audio_s)
        )

    def _show(self, transcript: _Transcript, delta: str) -> None:
        if delta:
            self._outbox.send(server_events.transcription_delta(transcript.item_id, delta))


def _with_transcript(item: Item, transcript: str) -> Item:
    """The spoken item with what was said in it."""
    parts = tuple(
        part if isinstance(part, TextPart) else replace(part, transcript=transcript)
        for part in item.parts
    )
    return replace(item, parts=parts)
