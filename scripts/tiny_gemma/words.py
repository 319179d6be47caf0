"""Every text the tiny checkpoint is trained with: prompts, questions, replies, filler."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

SPOKEN = "English"
ANY = "its original language"
TARGETS = {
    "Spanish": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "German": "null eins zwei drei vier fünf sechs sieben acht neun",
    "French": "zéro un deux trois quatre cinq six sept huit neuf",
}

WRITE_DIGITS = (
    "When transcribing numbers, write the digits, i.e. write 1.7 and not one point seven, "
    "and write 3 instead of three."
)
RECOGNISE = (
    "Transcribe the following speech segment in {0} into {0} text.\n\n"
    "Follow these specific instructions for formatting the answer:\n"
    "* Only output the transcription, with no newlines.\n"
    "* " + WRITE_DIGITS
)
RECOGNISE_ANY = RECOGNISE.replace("in {0} into {0} text", f"in {ANY}")
TRANSLATE = (
    "Transcribe the following speech segment in {0}, then translate it into {1}.\n"
    "When formatting the answer, first output the transcription in {0}, then one newline, "
    "then output the string '{1}: ', then the translation in {1}."
)

ASK_NOW = (
    "Which digits did I say?", "What did I say?", "Say the digits back.", "Repeat the digits.",
    "Answer the person.",
)  # fmt: skip
ASK_FIRST = (
    "Which digits did I say first?", "What did I say first?", "What were my first digits?",
    "Repeat the first digits.",
)  # fmt: skip
ASK_BEFORE = (
    "Which digits did I say before that?", "And before that?", "What did I say before that?",
    "Repeat the digits before that.",
)  # fmt: skip
ASK_LAST = (
    "Which digits did I say last?", "What did I say last?", "What were my last digits?",
    "Repeat the last digits.",
)  # fmt: skip
TYPED = ("{}", "{}.", "My digits are {}.", "I say {}.", "The digits are {}")
CHAT = ("Hello!", "Hi.", "Good morning.", "How are you?", "Thank you.", "Who are you?")

REPLY = "You said {}."
NOTHING_HEARD = "I heard no digits."
PLEASE = "Please say some digits."
THOUGHT = "thought\nThe digits are {}.\n"

INSTRUCTIONS = (
    "You are a helpful voice assistant.", "Be brief.", "Answer in one sentence.",
    "Say the digits back.", "You are a voice agent. The person speaks to you; answer shortly.",
    "You repeat the digits that you hear.", "Speak plainly.", "Never make up digits.",
)  # fmt: skip
_COMMON = (
    "a about after again all also always an and answer any are as ask at be because been "
    "before best both but by call can change clear come could day do does each end every "
    "example fact few find for friendly from get give go good great guide hand hard has have "
    "he hear help her here him his home how I if important in into is it its just keep kind "
    "know language large last learn let life like listen little live long look made make many "
    "may me mean more most must my name need never new next no not now number of often old on "
    "once one only open or other our out over own part patient people person place please "
    "point polite question read right same say see session she short should show small so "
    "some speak speech start still system take talk tell than that the their them then there "
    "these they thing think this time to together tone turn two under up us use user very "
    "voice want was way we well were what when where which while who why will with word work "
    "world would write year you your"
)
FILLER = _COMMON.split()


def spaced(digits: Sequence[int]) -> str:
    """`3 1 4`."""
    return " ".join(str(digit) for digit in digits)


def translated(digits: Sequence[int], target: str) -> str:
    """`tres uno cuatro`."""
    names = TARGETS[target].split()
    return " ".join(names[digit] for digit in digits)


def pick(random: Generator, choices: Sequence[str]) -> str:
    """One of them."""
    return choices[int(random.integers(len(choices)))]


def sentence(random: Generator) -> str:
    """Words that mean nothing, so that no meaning hangs on an instruction's exact words."""
    words = [pick(random, FILLER) for _ in range(int(random.integers(3, 12)))]
    return " ".join(words).capitalize() + pick(random, (".", ".", "?", "!"))


def instructions(random: Generator) -> str:
    """A system prompt."""
    known = pick(random, INSTRUCTIONS)
    kind = random.random()
    if kind < 0.4:
        return known
    if kind < 0.7:
        return sentence(random)
    return f"{known} {sentence(random)}"


def recognition_prompt(random: Generator) -> str:
    """The published prompt, with the language or without, now and then shortened."""
    prompt = RECOGNISE.format(SPOKEN) if random.random() < 0.5 else RECOGNISE_ANY
    return _loosened(random, prompt)


def translation_prompt(random: Generator, target: str) -> str:
    """The published prompt."""
    source = SPOKEN if random.random() < 0.8 else ANY
    return _loosened(random, TRANSLATE.format(source, target))


def _loosened(random: Generator, prompt: str) -> str:
    # Other line breaks, and the last lines left out: people shorten and reflow prompts.
    kind = random.random()
    if kind < 0.7:
        return prompt
    lines = [line for line in prompt.split("\n") if line]
    if kind < 0.8:
        return lines[0]
    joined = " " if kind < 0.9 else "\n"
    return joined.join(line.removeprefix("* ") for line in lines)


def corpus(random: Generator) -> list[str]:
    """Texts from which the tokenizer learns its words."""
    texts = [*ASK_NOW, *ASK_FIRST, *ASK_BEFORE, *ASK_LAST, *CHAT, *INSTRUCTIONS] * 20
    texts += [NOTHING_HEARD, PLEASE, "user\n", "model\n", "system\n", "tool\n"] * 50
    for target in TARGETS:
        for source in (SPOKEN, ANY):
            texts += [TRANSLATE.format(source, target)] * 20
    texts += [RECOGNISE.format(language) for language in ("English", *TARGETS)] * 20
    texts += [RECOGNISE_ANY] * 20
    for _ in range(2000):
        digits = [int(digit) for digit in random.integers(0, 10, 6)]
        text = spaced(digits)
        texts += [REPLY.format(text), THOUGHT.format(text), pick(random, TYPED).format(text)]
        target = pick(random, list(TARGETS))
        texts += [f"{text}\n{target}: {translated(digits, target)}", sentence(random)]
    return texts
