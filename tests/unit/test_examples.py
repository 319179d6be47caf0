"""docs/embedding.md and the files of docs/examples belong together."""

from __future__ import annotations

import re

import pytest

from tests.helpers.examples import EXAMPLES
from tests.helpers.speech import ROOT

PAGE = (ROOT / "docs" / "embedding.md").read_text("utf-8")
SHOWN = re.findall(r"<!-- from examples/(\S+) -->\n```\w+\n(.*?)\n```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("name", "block"), SHOWN, ids=[name for name, _ in SHOWN])
def test_what_the_page_shows_is_in_the_file_word_for_word(name: str, block: str):
    assert block in (EXAMPLES / name).read_text("utf-8")


def test_every_block_that_says_where_it_is_from_is_looked_at():
    assert len(SHOWN) == PAGE.count("<!-- from examples/") > 5


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_every_example_is_on_the_page_and_run_by_a_test(path):
    assert f"(examples/{path.name})" in PAGE
    tests = [*ROOT.glob("tests/embedding/*.py"), *ROOT.glob("tests/helpers/*.py")]
    stem = "speaking.html" if path.name == "speaking.js" else path.name
    assert any(f'{stem}"' in test.read_text("utf-8") for test in tests)
