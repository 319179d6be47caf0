"""The sans-I/O session of the types `realtime` and `transcription`: a state machine.

No clock, socket, thread or await in here. The driver calls

- `start(now)` once, then in the order in which things happen
- `receive_event(event, now)` for what the client says,
- `receive_audio(samples, probabilities, …)` for scored audio,
- `receive_tokens(event, now)` for what the engine's branches give,
- `receive_turn_score(number, probability, now)` for the answer to a `ScoreTurn`,
- `hold_text(held, now)` while it must not send text, as it may not have heard all there is,
- `tick(now)` when `next_deadline` has come,
- `expire(now)` in its place while audio or events wait to be received,

and after each call takes `take_output()`: events to send, commands for the engine and
reports, to be carried out in order. `now` is any clock that only goes forward, in seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.audio.pcm import SAMPLES_PER_MS, AudioFormat, Samples
from agent.errors import InvalidEvent, LimitExceeded, LocalError, RemoteError
from agent.protocol import server_events
from agent.protocol.client_events import (
    ClientEvent,
    InputAudioAppend,
    InputAudioClear,
    InputAudioCommit,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    OutputAudioClear,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
)
from agent.protocol.config import AnyConfig, ResponseConfig, SessionConfig
from agent.session import settings
from agent.session.answering import Answering
from agent.session.captions import Captions
from agent.session.commands import Commit
from agent.session.conversation import History
from agent.session.created import ItemMaker
from agent.session.editing import Editing
from agent.session.endpoint import Endpoint
from agent.session.expiry import Expiry
from agent.session.idle import IdleTimeout
from agent.session.items import AudioPart, Item
from agent.session.listening import Listening, Turn
from agent.session.options import SessionOptions
from agent.session.outbox import NewId, Outbox
from agent.session.outputs import Output
from agent.session.responses import ResponsePlan, Responses
from agent.session.tokens import TokenEvent
from agent.session.transcripts import Transcripts

# As on the official server: less is more likely a slip than a turn.
MIN_COMMIT_S = 0.1

# Out-of-band responses at once, beside the one of the conversation.
MAX_OPEN_RESPONSES = 8


class Session:
    """One client's conversation.

    Args:
        config: The settings it begins with.
        options: Everything else it is made with.
        new_id: Makes unique ids from a prefix.
    """

    def __init__(self, config: AnyConfig, options: SessionOptions, new_id: NewId) -> None:
        self._config = config
        self._options = options
        self._new_id = new_id
        self._outbox = Outbox(new_id)
        self._history = History(options.limits.max_items)
        self._responses = Responses(self._history, self._outbox, new_id, new_id("conv"))
        self._editing = Editing(self._history, self._responses, self._outbox)
        self._transcripts = Transcripts(self._history, self._outbox, new_id)
        self._captions = Captions(self._outbox, new_id)
        self._answering = Answering(
            config,
            self._make_item,
            options.interruption,
            answers_early=options.answers_early,
            sends_timings="timings" in options.extensions,
            responses=self._responses,
            outbox=self._outbox,
            new_id=new_id,
        )
        self._listening = Listening(
            options.vad,
            config.audio.input.turn_detection,
            self._outbox,
            new_id,
            self._answering,
            endpoint=Endpoint(options.turns, self._outbox, new_id, hears_words=options.hears_words),
        )
        self._expiry = Expiry(
            options.limits, self._outbox, sends_timings="timings" in options.extensions
        )
        self._idle = IdleTimeout()
        self._idle.configure(config.audio.input.turn_detection)

    # ------------------------------------------------------------ what the driver reads

    @property
    def input_format(self) -> AudioFormat:
        """How the client's audio is coded now."""
        return self._config.audio.input.format.to_audio_format()

    @property
    def detects_turns(self) -> bool:
        """Whether audio must be scored; otherwise the client commits its turns."""
        return not self._listening.is_manual

    @property
    def is_answering(self) -> bool:
        """Whether a response is in progress."""
        return self._responses.open_count > 0

    @property
    def is_interruptible(self) -> bool:
        """Whether speech would stop an answer."""
        return self._answering.interrupts

    @property
    def backlog_s(self) -> float:
        """Seconds of speech whose text is awaited: none, as answers are not for every word."""
        return 0.0

    @property
    def next_deadline(self) -> float | None:
        """When `tick` must be called, if nothing else happens before."""
        deadlines = [
            self._listening.deadline,
            self._expiry.deadline,
            self._answering.deadline,
            None if self._listening.is_open else self._idle.deadline,
        ]
        return min((time for time in deadlines if time is not None), default=None)

    def is_stalled(self, now: float) -> bool:
        """Whether `tick` will end the open turn, because no more audio comes."""
        return self._listening.is_stalled(now)

    def take_output(self) -> list[Output]:
        """What is to be done, in order; each output is given once."""
        return self._outbox.take()

    # ------------------------------------------------------------ what happens

    def start(self, now: float) -> None:
        """Begin: configures the engine's conversation and greets the client."""
        self._expiry.start(now)
        self._configure_engine()
        self._outbox.send(server_events.session_created(self._wire_config()))

    def receive_audio(
        self,
        samples: Samples,
        probabilities: NDArray[np.float32],
        now: float,
        arrived_at: float | None = None,
    ) -> None:
        """Take audio; see `Listening.receive`.

        Args:
            samples: float32[T], mono, 16 kHz.
            probabilities: float32[ceil(T / 512)]; empty when the client commits its turns.
            now: The time.
            arrived_at: When the last sample arrived, if earlier than now.
        """
        self._expiry.active(now)
        if not len(samples):
            return
        if self._listening.is_manual:
            limit_s = self._options.vad.max_manual_turn_s
            if self._listening.open_s > limit_s:
                self.report(
                    LimitExceeded(
                        f"the input audio buffer holds {limit_s:.0f} s, the most there may be; "
                        "commit or clear it (the audio just sent was not taken)",
                        code="input_audio_buffer_full",
                        param="audio",
                    )
                )
                return
        self._listening.receive(
            samples,
            probabilities,
            now,
            now if arrived_at is None else arrived_at,
            self._answering.start_threshold(now),
        )
        self._caption(now)
        self._observe(now)

    def receive_event(self, event: ClientEvent, now: float) -> None:
        """Take one event of the client; what is wrong with it becomes an `error` event.

        `input_audio_buffer.append` does not come here: its audio goes through the resampler
        and the scorer and arrives by `receive_audio`.
        """
        self._expiry.active(now)
        if isinstance(event, ItemCreate | ItemDelete | ItemTruncate):
            self._answering.context_changed()
        try:
            self._dispatch(event, now)
        except RemoteError as error:
            self.report(error, event.event_id)
        self._observe(now)

    def receive_tokens(self, event: TokenEvent, now: float) -> None:
        """Take what a branch of the engine gave."""
        if self._transcripts.receive(event):
            return
        if self._captions.receive(event, now):
            self._caption(now)
            return
        if self._listening.receive_words(event, now):
            return
        self._answering.receive(event, now)
        self._observe(now)

    def receive_turn_score(self, number: int, probability: float, now: float) -> None:
        """Take how likely the speaker has finished, asked for by `ScoreTurn`; it may be late."""
        self._listening.receive_turn_score(number, probability, now)
        self._observe(now)

    def hold_text(self, *, held: bool, now: float) -> None:
        """Keep back text of the answer that speech may stop, or do not any more."""
        self._answering.hold(held=held, now=now)
        self._observe(now)

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        self._listening.tick(now)
        self._answering.tick(now)
        self._observe(now)
        if not self._listening.is_open and (since := self._idle.strike(now)) is not None:
            self._speak_up(since, now)
        self.expire(now)

    def expire(self, now: float) -> bool:
        """Announce the end or end, if it is time; whether there is output."""
        closing = self._expiry.tick(now)
        if closing is not None:
            self.report(LimitExceeded(closing.reason, code="session_expired"))
            self._outbox.put(closing)
        return bool(self._outbox)

    def report(self, error: RemoteError | LocalError, event_id: str | None = None) -> None:
        """Tell the client about an error; the session goes on."""
        self._outbox.send(server_events.error(error, event_id))

    # ------------------------------------------------------------ turns

    def _make_item(self, turn: Turn) -> None:
        """Make a turn that has ended an item of the conversation."""
        converses = isinstance(self._config, SessionConfig)
        if converses:
            if self._history.is_full:
                self._answering.context_changed()
            self._responses.make_room()
        else:
            self._history.keep_last(settings.TRANSCRIBED_ITEMS_KEPT - 1)
        previous = self._history.last_id
        item = Item(id=turn.item_id, role="user", parts=(AudioPart(),))
        self._history.insert(item, previous)
        self._outbox.send(server_events.audio_committed(item.id, previous))
        self._outbox.send(server_events.item_added(item.to_wire(), previous))
        self._outbox.send(server_events.item_done(item.to_wire(), previous))
        self._outbox.put(Commit(item.id, self._responses.settled(previous)))
        shown = self._captions.close(item.id, turn.ended_at)
        if self._config.audio.input.transcription is not None:
            self._transcripts.start(item.id, turn.audio_s, shown, then_delete=not converses)

    # ------------------------------------------------------------ client events

    def _dispatch(self, event: ClientEvent, now: float) -> None:
        settings.check_type_allows(self._config, event)
        match event:
            case SessionUpdate():
                self._update(event, now)
            case InputAudioCommit():
                self._commit(now)
            case InputAudioClear():
                self._listening.clear(now)
                self._outbox.send(server_events.audio_cleared())
            case ItemCreate():
                self._editing.create(event, self._item_maker())
            case ItemDelete():
                self._editing.delete(event.item_id)
            case ItemRetrieve():
                self._editing.retrieve(event.item_id)
            case ItemTruncate():
                self._editing.truncate(event)
            case ResponseCreate():
                self._create_response(event.response)
            case ResponseCancel():
                self._cancel_response(event, now)
            case OutputAudioClear():
                pass  # text has no output buffer
            case InputAudioAppend():
                raise LocalError("audio comes by receive_audio")

    def _update(self, event: SessionUpdate, now: float) -> None:
        is_new = not (len(self._history) or self._listening.is_open or self.is_answering)
        self._config = settings.updated(self._config, event.session, self._options, is_new=is_new)
        detection = self._config.audio.input.turn_detection
        self._answering.configure(self._config, now)
        self._listening.configure(detection, now)
        self._idle.configure(detection)
        self._configure_engine()
        self._outbox.send(server_events.session_updated(self._wire_config()))

    def _commit(self, now: float) -> None:
        if self._listening.open_s < MIN_COMMIT_S:
            raise InvalidEvent(
                f"the input audio buffer holds {self._listening.open_s * 1000:.0f} ms of audio; "
                f"at least {MIN_COMMIT_S * 1000:.0f} ms are needed to commit it",
                code="input_audio_buffer_commit_empty",
            )
        self._listening.commit(now)

    def _create_response(self, config: ResponseConfig) -> None:
        in_conversation = config.conversation != "none"
        if in_conversation and self._responses.active is not None:
            raise InvalidEvent(
                "a response of this conversation is in progress; wait for response.done or "
                "send response.cancel first",
                code="conversation_already_has_active_response",
            )
        if self._responses.open_count >= MAX_OPEN_RESPONSES:
            raise LimitExceeded(
                f"at most {MAX_OPEN_RESPONSES} responses at once; wait for one to end",
                code="too_many_responses",
            )
        self._answering.create(
            ResponsePlan(
                in_conversation=in_conversation,
                instructions=config.instructions,
                context=self._editing.context(config.input, self._item_maker()),
                max_output_tokens=config.max_output_tokens or self._answering.max_output_tokens,
                metadata=config.metadata,
            )
        )

    def _cancel_response(self, event: ResponseCancel, now: float) -> None:
        if event.response_id is None:
            response = self._responses.active
        else:
            response = self._responses.find(event.response_id)
        if response is None:
            raise InvalidEvent(
                "there is no such response in progress",
                code="response_cancel_not_active",
                param=None if event.response_id is None else "response_id",
            )
        self._answering.cancel(response, now)

    # ------------------------------------------------------------ inside

    def _caption(self, now: float) -> None:
        """Caption what is being spoken, where that is wanted."""
        wanted = settings.shows_captions(self._config, self._options.extensions)
        self._captions.listen(self._listening.open_turn if wanted else None, now)

    def _observe(self, now: float) -> None:
        self._idle.observe(
            now,
            self._listening.position_sample,
            self._responses.ended_count,
            is_quiet=self._responses.active is None and not self._listening.in_turn,
        )

    def _speak_up(self, since_sample: int, now: float) -> None:
        """It was quiet for too long: what there is of the silence is answered as a turn."""
        turn = self._listening.commit_quiet(now)
        start_ms, end_ms = (sample // SAMPLES_PER_MS for sample in (since_sample, turn.end_sample))
        self._outbox.send(server_events.timeout_triggered(turn.item_id, start_ms, end_ms))
        self._answering.turn_ended(turn)

    def _configure_engine(self) -> None:
        self._outbox.put(settings.engine_settings(self._config, self._options.language))

    def _item_maker(self) -> ItemMaker:
        made = self._options
        return ItemMaker(self.input_format, made.vad, made.limits.max_item_chars, self._new_id)

    def _wire_config(self) -> server_events.Wire:
        made = self._options
        return settings.wire_settings(self._config, made.session_id, made.model, made.expires_at)
