from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.small.options import INFO
from agent.languages import LANGUAGES, Language, find_language, parse_language


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("de", "de"),
        ("German", "de"),
        ("Deutsch", "de"),
        (" GERMAN ", "de"),
        ("pt-br", "pt-BR"),
        ("en_US", "en-US"),
        ("ZH-hant-tw", "zh-Hant-TW"),
        ("nb", "no"),
        ("jw", "jv"),
        ("iw", "he"),
        ("Haitian  creole", "ht"),
        ("日本語", "ja"),
        ("de-1996", "de-1996"),
    ],
)
def test_names_and_codes_are_the_same(asked: str, code: str):
    assert parse_language(asked).code == code


def test_a_region_does_not_change_the_name():
    assert parse_language("pt-BR") == Language("pt-BR", "Portuguese")
    assert parse_language("pt-BR").primary == "pt"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Germn", "did you mean 'de' (German)?"),
        ("englsh", "did you mean 'en' (English)?"),
        ("deu", "did you mean 'de' (German)?"),
        ("qqqqqq", "such as 'de' or 'pt-BR'"),
        ("", "such as 'de' or 'pt-BR'"),
    ],
)
def test_an_unknown_one_is_refused_with_the_nearest_known(asked: str, said: str):
    with pytest.raises(ValueError, match="unknown language") as refused:
        parse_language(asked)
    assert said in str(refused.value)


def test_every_language_is_found_by_its_code_and_by_its_name():
    assert len(LANGUAGES) >= 100
    for language in LANGUAGES:
        assert parse_language(language.code) == language
        assert parse_language(language.name.upper()) == language


def test_every_language_of_whisper_is_known():
    tokenizer = pytest.importorskip("faster_whisper.tokenizer")
    assert [code for code in tokenizer._LANGUAGE_CODES if find_language(code) is None] == []


@given(st.text(max_size=200))
def test_anything_is_found_or_refused_and_what_is_found_stays(value: str):
    language = find_language(value)
    if language is None:
        with pytest.raises(ValueError, match="unknown language"):
            parse_language(value)
    else:
        assert parse_language(language.code) == language


def test_the_embedded_engine_says_which_of_them_it_understands():
    tokenizer = pytest.importorskip("faster_whisper.tokenizer")
    known = {parse_language(code).primary for code in tokenizer._LANGUAGE_CODES}
    assert set(INFO.languages or ()) == known
