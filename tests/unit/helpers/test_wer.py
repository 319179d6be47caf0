import pytest

from tests.helpers.wer import WordErrors, differences, normalise, total, word_errors


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("in eighteen thirteen", "In 1813."),
        ("mister quilter is the apostle", "Mr. Quilter is the apostle!"),
        ("go forward ten meters", "Go forward 10 metres."),
        ("eight the press yard", "8. The Press Yard"),
        ("only platforms one and three are used", "Only platforms 1 and 3 are used."),
        ("he was not an ill disposed young man", "He was not an ill-disposed young man,"),
    ],
)
def test_spellings_of_the_same_words_are_equal(said: str, written: str) -> None:
    assert normalise(said) == normalise(written)


def test_other_languages_keep_their_accents() -> None:
    assert normalise("Eaux et forêts, et…", "fr") == "eaux et forêts et"


def test_errors_are_counted_by_kind() -> None:
    counted = word_errors("the pencils have all been used", "the pencil have been used up")
    assert counted == WordErrors(words=6, substitutions=1, deletions=1, insertions=1)
    assert counted.errors == 3
    assert counted.rate == pytest.approx(0.5)


def test_differences_are_shown_in_words() -> None:
    assert differences("the pencils have all been used", "The pencil have been used up.") == [
        "pencils → pencil",
        "all → —",
        "— → up",
    ]
    assert differences("go forward", "") == ["go forward → —"]
    assert differences("", "Thank you.") == ["— → thank you"]
    assert differences("", "") == []


def test_nothing_said_and_something_heard_is_all_insertions() -> None:
    assert word_errors("", "thank you") == WordErrors(insertions=2)
    assert word_errors("", "").rate == 0.0


def test_nothing_heard_is_all_deletions() -> None:
    assert word_errors("go forward", "") == WordErrors(words=2, deletions=2)


def test_the_total_weighs_by_words() -> None:
    counts = [WordErrors(words=9, deletions=1), WordErrors(words=1, substitutions=1)]
    assert total(counts).rate == pytest.approx(0.2)
