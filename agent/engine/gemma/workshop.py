"""What all conversations of an engine share, and how prompts become token sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.audio.mel import MelParameters
from agent.engine.contract import ConversationSettings
from agent.engine.gemma.detokenise import Vocabulary
from agent.engine.gemma.device import Device
from agent.engine.gemma.prompts import (
    ClipRef,
    PromptItem,
    PromptRenderer,
    Purpose,
    SoftToken,
)
from agent.engine.gemma.residency import Residency, Token
from agent.engine.gemma.sampling import SamplingParameters
from agent.engine.gemma.scheduler import Scheduler
from agent.engine.gemma.sounds import Sound
from agent.engine.items import Role
from agent.errors import EngineError

_CHARACTERS_PER_TOKEN = 3


@dataclass(frozen=True)
class Workshop:
    """What all conversations share; used in the scheduler's thread only.

    Attributes:
        scheduler, device, residency: Do the work.
        renderer, vocabulary: Of the checkpoint.
        mel: Features of its clips.
        sampling: How its answers are decoded, unless they say otherwise.
        max_output_tokens: Of answers that do not say theirs.
        context_tokens: Longest prompt and answer together.
        summaries: Whether the oldest turns of long conversations are summarised.
    """

    scheduler: Scheduler
    device: Device
    residency: Residency
    renderer: PromptRenderer
    vocabulary: Vocabulary
    mel: MelParameters
    sampling: SamplingParameters
    max_output_tokens: int
    context_tokens: int
    summaries: bool

    def sound(self, pcm: bytes = b"", *, closed: bool = False) -> Sound:
        """A new clip."""
        return Sound(self.mel, self.device.shapes.piece_tokens, pcm, closed=closed)


def clip_of(sound: Sound) -> ClipRef:
    """A clip as prompts name it: one token stands for however many it has."""
    return ClipRef(sound, 1)


def spoken(sounds: Iterable[Sound]) -> PromptItem:
    """A user's turn of these clips."""
    return PromptItem(Role.USER, tuple(clip_of(sound) for sound in sounds))


class Script:
    """A prompt whose clips may still grow: text, and clips between.

    Attributes:
        parts: Text as token ids, and clips.
    """

    def __init__(self, tokens: Sequence[int | SoftToken]) -> None:
        """From a rendered prompt with one token for every clip, however long that is."""
        self.parts: list[list[Token] | Sound] = []
        begin = 0
        for at, token in enumerate(tokens):
            if isinstance(token, SoftToken):
                assert isinstance(token.clip, Sound)
                self.parts += [_ids(tokens[begin:at]), token.clip]
                begin = at + 1
        self.parts.append(_ids(tokens[begin:]))

    @property
    def sounds(self) -> list[Sound]:
        """Its clips."""
        return [part for part in self.parts if isinstance(part, Sound)]

    @property
    def last_text(self) -> list[Token]:
        """The text behind the last clip."""
        last = self.parts[-1]
        assert isinstance(last, list)
        return last

    def tokens(self, parts: int | None = None) -> list[Token]:
        """Its first parts, or all, with all soft tokens that the clips have now."""
        tokens: list[Token] = []
        for part in self.parts[:parts]:
            tokens += part.tokens() if isinstance(part, Sound) else part
        return tokens

    def opening(self, clips: int) -> tuple[list[Token], int, int]:
        """As far as its last clip was surely heard: nothing behind that is known yet.

        Args:
            clips: How many clips the utterance has that is still open; they are the last ones.

        Returns:
            The tokens, and how many of them come before the utterance's first and last clip.
        """
        last = self.parts[-2]
        assert isinstance(last, Sound)
        first, before = self.tokens(-2 * clips), self.tokens(-2)
        if last.is_closed:
            # The end of audio follows; what comes then depends on whether another clip comes.
            heard = [*last.tokens(), *self.last_text[:1]]
        else:
            heard = [*last.tokens()[: last.whole_tokens]]
        return [*before, *heard], len(first), len(before)


def _ids(tokens: Sequence[int | SoftToken]) -> list[Token]:
    return [token for token in tokens if isinstance(token, int)]


class Scripts:
    """Renders scripts and keeps the last ones.

    What an utterance's prompt will be is known before it ends, so that at its end nothing is
    rendered any more.
    """

    _KEPT = 4

    def __init__(self, renderer: PromptRenderer) -> None:
        self._renderer = renderer
        self._known: list[tuple[object, Script]] = []
        self._fixed: tuple[ConversationSettings, int] | None = None

    def of(
        self, settings: ConversationSettings, items: Sequence[PromptItem], purpose: Purpose
    ) -> Script:
        """The script of a prompt.

        Raises:
            TemplateFailed, Unsupported: As `PromptRenderer.render`.
        """
        key = (settings, list(items), purpose)
        for known, script in self._known:
            if known == key:
                return script
        script = Script(self._renderer.render(settings, items, purpose))
        self._known = [(key, script), *self._known[: self._KEPT - 1]]
        return script

    def length(self, items: Sequence[PromptItem]) -> int:
        """About how many tokens items take; a guess for those a template cannot write alone."""
        try:
            return len(Script(self._renderer.render(ConversationSettings(), items)).tokens())
        except EngineError:
            clips = [clip.clip for item in items for clip in item.clips]
            heard = sum(len(clip.tokens()) for clip in clips if isinstance(clip, Sound))
            return heard + sum(len(item.text) for item in items) // _CHARACTERS_PER_TOKEN

    def fixed_length(self, settings: ConversationSettings) -> int:
        """Tokens of a prompt without any item.

        Raises:
            TemplateFailed, Unsupported: As `PromptRenderer.render`.
        """
        if self._fixed is None or self._fixed[0] != settings:
            self._fixed = (settings, len(self._renderer.render(settings, [])))
        return self._fixed[1]
