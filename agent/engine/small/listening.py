"""From an utterance that is being heard to its words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent.audio.pcm import Samples
from agent.engine.small.drafts import Drafts
from agent.engine.small.recogniser import Heard
from agent.engine.small.recognition import Recognition, RecognitionQueue, Speaker, Urgency
from agent.engine.utterance import Utterance
from agent.errors import EngineUnavailable


class Words:
    """The words of an utterance, as soon as all of its clips are recognised.

    Attributes:
        own: The recognition that nobody else asked for, or None: it may be dropped when these
            words are not needed any more.
    """

    def __init__(
        self,
        recognitions: Sequence[Recognition],
        own: Recognition | None = None,
        settled: str = "",
    ) -> None:
        """The words of these clips; `settled` is known already and comes before the last one's."""
        self.own = own
        self._settled = settled
        self._recognitions = tuple(recognitions)
        self._heard: Heard | None = None

    @property
    def committed_s(self) -> float:
        """Seconds of clips that somebody waits for."""
        return sum(recognition.committed_s for recognition in self._recognitions)

    async def heard(self) -> Heard:
        """All clips' words, joined by spaces.

        Raises:
            EngineError: A clip could not be recognised.
            EngineUnavailable: It was dropped: the speaker went on, or the engine stops.
        """
        if self._heard is None:
            parts = [await _result(recognition) for recognition in self._recognitions]
            texts = [part.text for part in parts]
            texts.insert(len(texts) - 1, self._settled)
            self._heard = Heard(
                " ".join(filter(None, texts)),
                sum(part.audio_tokens for part in parts),
                sum(part.output_tokens for part in parts),
                translation=_joined([part.translation for part in parts]),
            )
            self._recognitions = ()  # frees the audio
        return self._heard


class Listening:
    """The open utterance of a conversation, its clips being recognised as it goes on."""

    def __init__(self, queue: RecognitionQueue, speaker: Speaker) -> None:
        self._queue = queue
        self._speaker = speaker
        self._utterance = Utterance()
        self._closed: list[Recognition] = []
        self._early: Recognition | None = None
        self._drafts = Drafts()

    def hear(self, samples: Samples) -> None:
        """See `Conversation.hear`."""
        self._utterance.hear(samples)

    def cut(self, keep_samples: int) -> None:
        """Close a clip and have it recognised; in a pause it may have been already."""
        clip = self._utterance.cut(keep_samples)
        self._drafts = Drafts()
        early, self._early = self._early, None
        if early is not None and early.samples.size <= keep_samples:
            self._queue.hurry(early, Urgency.CLOSED)
            self._closed.append(early)
            return
        if early is not None:
            self._queue.drop(early)
        if clip.has_speech:
            self._closed.append(self._queue.submit(self._speaker, clip.samples, Urgency.CLOSED))

    def pause(self) -> None:
        """Have the open clip recognised: it may be the last of the turn."""
        if self._utterance.paused_at is not None:
            return
        self._utterance.pause()
        clip = self._utterance.open_clip
        if clip is not None and clip.has_speech:
            self._early = self._queue.submit(self._speaker, clip.samples, Urgency.EARLY)

    def resume(self) -> None:
        """The open clip is not over: drop its early recognition."""
        self._utterance.resume()
        if self._early is not None:
            self._queue.drop(self._early)
            self._early = None

    def drop(self) -> None:
        """Nobody needs the words."""
        for recognition in (*self._closed, *((self._early,) if self._early else ())):
            self._queue.drop(recognition)

    def caption(self) -> Words:
        """The words of all that was heard so far, as a draft, while more is to come."""
        clip = self._utterance.open_clip
        if self._early is not None or clip is None or not clip.has_speech:
            return self.words(Urgency.CAPTION)
        drafts, start = self._drafts, self._drafts.samples
        own = self._queue.submit(self._speaker, clip.samples[start:], Urgency.CAPTION)

        def take(heard: asyncio.Future[Heard]) -> None:
            if not heard.cancelled() and heard.exception() is None:
                drafts.take(heard.result(), start)

        own.heard.add_done_callback(take)
        return Words([*self._closed, own], own, drafts.text)

    def words(self, urgency: Urgency) -> Words:
        """The words of all that was heard; samples heard in a pause are silence."""
        recognitions = list(self._closed)
        clip = self._utterance.open_clip
        if self._early is not None:
            recognitions.append(self._early)
        elif clip is not None and clip.has_speech:
            recognitions.append(self._queue.submit(self._speaker, clip.samples, urgency))
        for recognition in recognitions:
            self._queue.hurry(recognition, urgency)
        return Words(recognitions)


def _joined(translations: Sequence[str | None]) -> str | None:
    """Of all clips, joined by spaces; None when there is not one of each."""
    known = [text for text in translations if text is not None]
    return " ".join(filter(None, known)) if len(known) == len(translations) else None


async def _result(recognition: Recognition) -> Heard:
    # `wait` neither cancels what others wait for nor is cancelled with it.
    await asyncio.wait([recognition.heard])
    if recognition.heard.cancelled():
        raise EngineUnavailable("this speech is not recognised: it was dropped before its turn")
    return recognition.heard.result()
