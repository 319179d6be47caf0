"""Prompts for transcripts and translations."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


from agent.engine.contract import ConversationSettings
from agent.engine.gemma.prompts import ClipRef, Transcript, Translation, split_at_clip
from agent.errors import Unsupported
from tests.helpers.gemma_prompts import LAMP, PLAIN, RENDERER, assistant, text_of, user


def test_a_transcript_is_asked_about_the_clips_of_one_item_only():
    item = user(ClipRef("a", 1), ClipRef("b", 1), "Answer me!")
    prompt = RENDERER.render(
        ConversationSettings("Be kind.", (LAMP,)), [user("before"), item], Transcript()
    )
    assert text_of(prompt) == (
        "<bos><|turn>user\n<|audio>(a0)<audio|><|audio>(b0)<audio|>"
        "Transcribe the following speech segment in its original language.\n\n"
        "Follow these specific instructions for formatting the answer:\n"
        "* Only output the transcription, with no newlines.\n"
        "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point seven, "
        "and write 3 instead of three."
        "<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    )


@pytest.mark.parametrize("language", ["de", "de-CH", "de_AT", "German", "german"])
def test_a_transcript_in_a_language(language):
    prompt = RENDERER.render(PLAIN, [user(ClipRef("a", 1))], Transcript(language))
    assert "Transcribe the following speech segment in German into German text.\n" in text_of(
        prompt
    )


def test_a_language_without_a_name_is_left_to_the_model():
    prompt = RENDERER.render(PLAIN, [user(ClipRef("a", 1))], Transcript("zzz"))
    assert "in its original language." in text_of(prompt)


def test_a_transcript_in_its_context_shares_what_came_before():
    items = [user("before"), assistant("yes"), user(ClipRef("a", 3), "Answer me!")]
    kind = ConversationSettings("Be kind.")
    answer = RENDERER.render(kind, items)
    transcript = RENDERER.render(kind, items, Transcript(in_context=True))
    assert split_at_clip(answer, "a")[0] == split_at_clip(transcript, "a")[0]
    assert "Transcribe" in text_of(split_at_clip(transcript, "a")[1])
    assert "Answer me" not in text_of(transcript)


def test_a_translation():
    prompt = RENDERER.render(PLAIN, [user(ClipRef("a", 1))], Translation("en", "Spanish"))
    assert text_of(split_at_clip(prompt, "a")[1]).startswith(
        "<audio|>Transcribe the following speech segment in English, then translate it into "
        "Spanish.\nWhen formatting the answer, first output the transcription in English, then "
        "one newline, then output the string 'Spanish: ', then the translation in Spanish.<turn|>"
    )
    with pytest.raises(Unsupported, match="'zz'"):
        RENDERER.render(PLAIN, [user(ClipRef("a", 1))], Translation("zz", "es"))


def test_only_speech_can_be_transcribed():
    with pytest.raises(ValueError, match="needs an item with clips"):
        RENDERER.render(PLAIN, [user(ClipRef("a", 1)), user("typed")], Transcript())
    with pytest.raises(ValueError, match="needs an item with clips"):
        RENDERER.render(PLAIN, [], Transcript())
