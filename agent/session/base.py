"""What a driver needs of a session, whatever its type."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.audio.pcm import AudioFormat, Samples
from agent.errors import LocalError, RemoteError
from agent.protocol.client_events import ClientEvent
from agent.session.outputs import Output
from agent.session.tokens import TokenEvent


class DrivenSession(Protocol):
    """A sans-I/O session; `agent.session.session` says how it is driven."""

    @property
    def input_format(self) -> AudioFormat:
        """How the client's audio is coded now."""

    @property
    def detects_turns(self) -> bool:
        """Whether audio must be scored."""

    @property
    def is_answering(self) -> bool:
        """Whether the client waits for text."""

    @property
    def is_interruptible(self) -> bool:
        """Whether speech would stop an answer."""

    @property
    def next_deadline(self) -> float | None:
        """When `tick` must be called, if nothing else happens before."""

    @property
    def backlog_s(self) -> float:
        """Seconds of speech that were said and whose text is not there yet."""

    def is_stalled(self, now: float) -> bool:
        """Whether `tick` will end what is being heard, because no more audio comes."""

    def take_output(self) -> list[Output]:
        """What is to be done, in order; each output is given once."""

    def start(self, now: float) -> None:
        """Begin."""

    def receive_audio(
        self,
        samples: Samples,
        probabilities: NDArray[np.float32],
        now: float,
        arrived_at: float | None = None,
    ) -> None:
        """Take audio."""

    def receive_event(self, event: ClientEvent, now: float) -> None:
        """Take one event of the client."""

    def receive_tokens(self, event: TokenEvent, now: float) -> None:
        """Take what a branch of the engine gave."""

    def receive_turn_score(self, number: int, probability: float, now: float) -> None:
        """Take how likely it is that the speaker has finished, in a pause that was asked about."""

    def hold_text(self, *, held: bool, now: float) -> None:
        """Keep back text of the answer that speech may stop, from now on, or do not any more.

        It counts as not sent, as if somebody were speaking: what comes of it then is decided by
        what was heard meanwhile.
        """

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""

    def expire(self, now: float) -> bool:
        """Do of what is due only what ends the session; whether there is output.

        For while something waits to be received: what is heard late is not over, a session is.
        """

    def report(self, error: RemoteError | LocalError, event_id: str | None = None) -> None:
        """Tell the client about an error."""
