"""What speech over an answer does to it.

    96 ms that may be speech    text waits a moment (`suspicion.py`)
    after 160 ms of speech      further text is withheld
    the speaker is quiet        a backchannel ("mhm", "yes"): the answer goes on with what was
                                withheld once the turn is over, or after half a second; other
                                words: it is cancelled; when nothing is known of them, it goes on
                                after half a second
    after 500 ms of speech      cancelled, unless the words so far are a backchannel, or on
                                their way
    after 1000 ms of speech     cancelled, whatever the words are

The limits are `InterruptionSettings`; they count speech, without pauses. Words are asked for
as a transcript of the open utterance once there is enough of it, and again where the speaker
pauses. An engine that is too busy for that, or fails, leaves the rule of 500 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from agent.config import InterruptionSettings
from agent.session.commands import BranchPurpose, DropBranch, StartBranch
from agent.session.listening import Progress, Turn
from agent.session.outbox import NewId, Outbox
from agent.session.tokens import BranchEnded, BranchFailed, BranchText, TokenEvent

# Once so much speech has arrived, nothing more may be sent after another 100 ms.
INTERRUPTING_MS = 200
# A shorter piece of speech is not worth recognising: it is half a word.
FIRST_WORDS_AFTER_MS = 320
# So much more speech may be other words; at the end of it less is a word.
WORDS_AGAIN_AFTER_MS = 250
SHORTEST_WORD_MS = 96
# As much as a backchannel has, and a few words by which anything else is told from it.
WORDS_MAX_TOKENS = 16
# A speaker who pauses for so long, and has said nothing, was not interrupting. A backchannel waits
# as long: a short word before a short pause ("eight, the press yard") may be heard as one.
QUIET_S = 0.5
# An answer is not withheld any longer for words that take longer than this.
WORDS_WAIT_S = 1.5


class Words(Enum):
    """What is known of what was said over an answer."""

    UNKNOWN = auto()
    PENDING = auto()
    BACKCHANNEL = auto()
    OTHER = auto()


class Verdict(Enum):
    """What becomes of the answer, as far as one speaker's turn goes."""

    GO_ON = auto()
    WITHHOLD = auto()
    CANCEL = auto()


@dataclass(slots=True)
class Overlap:
    """One turn of the user over an answer.

    Attributes:
        speech_ms: Speech in it so far.
        quiet_at: When the speaker paused, or was done, in seconds; None while speaking.
        words: What is known of it.
        turn: The turn, once it is over.
        wants_answer: Whether it is to be answered, unless it proves a backchannel.
        branch_id: Of the transcript that is being made, or None.
        asked_ms: The speech that the last transcript covers, or None.
        due_at: When an answer is not withheld for its words any longer, in seconds.
        is_late: Whether they were not there by then.
        enough: How far it was when there was enough speech to stop an answer; None before.
        enough_at: When that was known, in seconds.
        withheld_at: When it first kept text back, in seconds; None before.
    """

    speech_ms: int = 0
    quiet_at: float | None = None
    words: Words = Words.UNKNOWN
    turn: Turn | None = None
    wants_answer: bool = False
    branch_id: str | None = None
    asked_ms: int | None = None
    due_at: float = 0.0
    is_late: bool = False
    text: list[str] = field(default_factory=list)
    enough: Progress | None = None
    enough_at: float = 0.0
    withheld_at: float | None = None

    def go_on(self, progress: Progress, now: float) -> bool:
        """Note how far it is; whether more was said."""
        if self.enough is None and progress.speech_ms >= INTERRUPTING_MS:
            self.enough, self.enough_at = progress, now
        has_grown = progress.speech_ms != self.speech_ms
        self.speech_ms = progress.speech_ms
        return has_grown

    @property
    def is_quiet(self) -> bool:
        """Whether the speaker pauses, or is done."""
        return self.quiet_at is not None

    def pause(self, now: float) -> None:
        """The speaker is quiet."""
        if self.quiet_at is None:
            self.quiet_at = now

    @property
    def quiet_until(self) -> float | None:
        """When the speaker will have been quiet for long enough, in seconds."""
        return None if self.quiet_at is None else self.quiet_at + QUIET_S

    def verdict(self, limits: InterruptionSettings, now: float) -> Verdict:
        """What this alone does to an answer."""
        verdict = self._verdict(limits, now)
        if verdict is not Verdict.GO_ON and self.withheld_at is None:
            self.withheld_at = now
        return verdict

    def _verdict(self, limits: InterruptionSettings, now: float) -> Verdict:
        words = Words.UNKNOWN if self.is_late else self.words
        if self.speech_ms >= limits.words_until_ms:
            return Verdict.CANCEL
        if words in {Words.UNKNOWN, Words.OTHER} and self.speech_ms >= limits.cancel_after_ms:
            return Verdict.CANCEL
        if self.is_quiet and words is Words.OTHER:
            return Verdict.CANCEL
        is_quiet_for_long = self.quiet_until is not None and now >= self.quiet_until
        if words is Words.BACKCHANNEL and (is_quiet_for_long or self.turn is not None):
            return Verdict.GO_ON
        if words is Words.UNKNOWN and is_quiet_for_long:
            return Verdict.GO_ON
        if self.speech_ms >= limits.withhold_after_ms:
            return Verdict.WITHHOLD
        return Verdict.GO_ON


class WordCheck:
    """Has what is said over an answer transcribed, to tell a backchannel from a turn.

    Args:
        outbox: Where commands go.
        new_id: Makes branch ids.
        is_backchannel: Judges the words.
    """

    def __init__(
        self, outbox: Outbox, new_id: NewId, is_backchannel: Callable[[str], bool]
    ) -> None:
        self._outbox = outbox
        self._new_id = new_id
        self._is_backchannel = is_backchannel
        self._asked: dict[str, Overlap] = {}

    @property
    def deadline(self) -> float | None:
        """When the next words are late, in seconds."""
        waited_for = (one.due_at for one in self._asked.values() if not one.is_late)
        return min(waited_for, default=None)

    def follow(self, overlap: Overlap, now: float) -> None:
        """Ask for the words of an overlap if there are more than were asked for.

        Half a word may be heard as anything: all that was said is asked for once the speaker
        is quiet, unless it was a backchannel so far and hardly anything followed.
        """
        if overlap.asked_ms is None:
            enough = overlap.is_quiet or overlap.speech_ms >= FIRST_WORDS_AFTER_MS
        else:
            more_ms = overlap.speech_ms - overlap.asked_ms
            enough = more_ms >= WORDS_AGAIN_AFTER_MS and overlap.words is not Words.PENDING
            if overlap.is_quiet and more_ms:
                enough = more_ms >= SHORTEST_WORD_MS or overlap.words is not Words.BACKCHANNEL
        if enough and overlap.speech_ms:
            self._ask(overlap, now)

    def receive(self, event: TokenEvent) -> bool:
        """Take what a transcript gave; False when it is another's."""
        overlap = self._asked.get(event.branch_id)
        if overlap is None:
            return False
        match event:
            case BranchText(text=text):
                overlap.text.append(text)
            case BranchEnded():
                said = "".join(overlap.text)
                go_on = self._is_backchannel(said)
                self._settle(overlap, Words.BACKCHANNEL if go_on else Words.OTHER)
            case BranchFailed():
                self._settle(overlap, Words.UNKNOWN)
        return True

    def tick(self, now: float) -> None:
        """Withhold nothing for words that are late; whether to answer them still waits."""
        for overlap in self._asked.values():
            overlap.is_late = now >= overlap.due_at

    def drop(self, overlap: Overlap) -> None:
        """Nobody needs its words, or waits for them; what was not known stays so."""
        if overlap.branch_id is not None:
            self._outbox.put(DropBranch(overlap.branch_id))
            self._settle(overlap, Words.UNKNOWN)

    def _settle(self, overlap: Overlap, words: Words) -> None:
        assert overlap.branch_id is not None
        del self._asked[overlap.branch_id]
        overlap.branch_id, overlap.words, overlap.is_late = None, words, False

    def _ask(self, overlap: Overlap, now: float) -> None:
        self.drop(overlap)
        overlap.branch_id = self._new_id("branch")
        overlap.asked_ms, overlap.words = overlap.speech_ms, Words.PENDING
        overlap.due_at = now + WORDS_WAIT_S
        overlap.text.clear()
        self._asked[overlap.branch_id] = overlap
        self._outbox.put(
            StartBranch(
                branch_id=overlap.branch_id,
                purpose=BranchPurpose.TRANSCRIPT,
                # Once its turn is over there is an item; until then what is open.
                item_id=None if overlap.turn is None else overlap.turn.item_id,
                max_output_tokens=WORDS_MAX_TOKENS,
                optional=True,
            )
        )
