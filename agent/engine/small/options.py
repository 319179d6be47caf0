"""What the embedded engine is called and how it is set up."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agent.engine.contract import EngineInfo
from agent.languages import LANGUAGES

TRANSLATION_TARGETS = ("en",)
"""All that Whisper translates into."""

_UNKNOWN_TO_WHISPER = frozenset(
    [
        "ceb",
        "co",
        "eo",
        "fy",
        "ga",
        "gd",
        "hmn",
        "ig",
        "ilo",
        "ku",
        "ky",
        "lg",
        "mai",
        "ny",
        "om",
        "or",
        "qu",
        "rw",
        "sm",
        "st",
        "ti",
        "tn",
        "ug",
        "xh",
        "zu",
    ]
)

INFO = EngineInfo(
    name="small",
    model="whisper-base+smollm2-135m-instruct",
    words_at_pauses=True,
    note=(
        "This is the embedded demo: it hears well, but its answers are of demo quality and often"
        " wrong. Gemma 4 hears and answers for real: scripts/serve --model google/gemma-4-E2B-it"
    ),
    translation_targets=TRANSLATION_TARGETS,
    languages=tuple(one.code for one in LANGUAGES if one.code not in _UNKNOWN_TO_WHISPER),
)

# Beyond these a model of this size gets no faster.
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class SmallOptions:
    """Settings of `SmallEngine`; defaults are in `agent.config`.

    Attributes:
        recognition_threads: None to choose by the cores there are.
        language_threads: None to choose by the cores there are.
        context_tokens: Longest prompt plus answer.
        parallel_answers: Answers decoded at a time.
        prompt_cache_mib: For prompts of conversations that wait.
        temperature: Of answers that do not say theirs.
        max_output_tokens: Of answers that do not say theirs.
        recogniser_folder: Whisper as CTranslate2 stores it; None for the model store's.
        language_model_file: SmolLM2 as GGUF; None for the model store's.
    """

    recognition_threads: int | None
    language_threads: int | None
    context_tokens: int
    parallel_answers: int
    prompt_cache_mib: int
    temperature: float
    max_output_tokens: int
    recogniser_folder: str | None = None
    language_model_file: str | None = None

    def to_json(self) -> dict[str, object]:
        """As `agent.engine.small.create` takes it."""
        return asdict(self)


def choose_threads(cores: int) -> tuple[int, int]:
    """Threads for the recogniser and for the language model, which may work at once.

    One core is left to audio: a language model with more threads than free cores waits for
    itself at every step (60 tokens/s became 5). On two cores a second thread did not make
    recognition faster either.
    """
    free = max(0, cores - 1)
    recognition = max(1, free // 2)
    return min(recognition, _MOST_THREADS), min(max(1, free - recognition), _MOST_THREADS)
