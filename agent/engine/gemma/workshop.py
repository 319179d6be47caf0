"""What all conversations of an engine share, and how prompts become token sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.audio.mel import MelParameters
from agent.engine.contract import ConversationSettings, Role
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

    def sound(self, pcm: bytes = b"", *, closed: bool = False) -> Sound:
        """A new clip."""
        return Sound(self.mel, self.device.shapes.piece_tokens, pcm, closed=closed)


def clip_of(sound: Sound) -> ClipRef:
    """A clip as prompts name it: one token stands for however many it has."""
    return ClipRef(sound, 1)


def spoken(sounds: Iterable[Sound]) -> PromptItem:
    """A user's turn of these clips."""
    return PromptItem(Role.USER, tuple(clip_of(sound) for sound in sounds))


class Scripts:
    """Prompts with one token for every clip, of whatever length; the last ones are kept.

    What an utterance's prompt will be is known before it ends, so that at its end nothing is
    rendered any more.
    """

    _KEPT = 4

    def __init__(self, renderer: PromptRenderer) -> None:
        self._renderer = renderer
        self._known: list[tuple[object, list[int | SoftToken]]] = []
        self._fixed: tuple[ConversationSettings, int] | None = None

    def of(
        self, settings: ConversationSettings, items: Sequence[PromptItem], purpose: Purpose
    ) -> list[int | SoftToken]:
        """The prompt's tokens, one `SoftToken` a clip.

        Raises:
            TemplateFailed, Unsupported: As `PromptRenderer.render`.
        """
        key = (settings, list(items), purpose)
        for known, script in self._known:
            if known == key:
                return script
        script = self._renderer.render(settings, items, purpose)
        self._known = [(key, script), *self._known[: self._KEPT - 1]]
        return script

    def length(self, items: Sequence[PromptItem]) -> int:
        """About how many tokens items take; a guess for those a template cannot write alone."""
        try:
            return len(expand(self._renderer.render(ConversationSettings(), items)))
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


def expand(script: Sequence[int | SoftToken]) -> list[Token]:
    """A prompt with all soft tokens that its clips have now."""
    tokens: list[Token] = []
    for token in script:
        if isinstance(token, SoftToken):
            assert isinstance(token.clip, Sound)
            tokens += token.clip.tokens()
        else:
            tokens.append(token)
    return tokens


def expand_open(script: Sequence[int | SoftToken], clips: int) -> tuple[list[Token], int, int]:
    """A prompt as far as its last clip was surely heard: nothing behind that is known yet.

    Args:
        script: Ends with an utterance that is still open.
        clips: How many clips that has.

    Returns:
        The tokens, and how many of them come before the utterance's first and last clip.
    """
    places = [at for at, token in enumerate(script) if isinstance(token, SoftToken)]
    last = script[places[-1]]
    assert isinstance(last, SoftToken)
    assert isinstance(last.clip, Sound)
    before = expand(script[: places[-1]])
    first = len(expand(script[: places[-clips]]))
    tokens: list[Token] = [*before, *last.clip.tokens()]
    if last.clip.is_closed:
        # The end of audio follows; what comes then depends on whether another clip comes.
        tokens += expand(script[places[-1] + 1 : places[-1] + 2])
    else:
        del tokens[len(before) + last.clip.whole_tokens :]
    return tokens, first, len(before)
