from __future__ import annotations

import pytest

from agent.engine.history import History, answer_item
from agent.engine.items import Item, Role, Text, ToolCall


def item(item_id: str, *texts: str) -> Item:
    return Item(item_id, Role.USER, tuple(Text(text) for text in texts))


def ids(history: History) -> list[str]:
    return [one.id for one in history.items]


@pytest.mark.parametrize(
    ("after", "head", "order"),
    [
        (None, False, ["a", "b", "new"]),
        ("a", False, ["a", "new", "b"]),
        ("b", False, ["a", "b", "new"]),
        ("gone", False, ["a", "b", "new"]),
        (None, True, ["new", "a", "b"]),
    ],
)
def test_an_item_goes_where_it_is_told(after: str | None, head: bool, order: list[str]) -> None:
    history = History([item("a"), item("b")])
    history.insert(item("new"), after, head=head)
    assert ids(history) == order


def test_an_id_is_there_once() -> None:
    history = History([item("a")])
    with pytest.raises(ValueError, match="'a' already"):
        history.insert(item("a"))
    history.delete("a")
    history.insert(item("a"))
    assert ids(history) == ["a"]


@pytest.mark.parametrize(
    ("upto", "texts"),
    [(0, []), (2, ["on"]), (3, ["one"]), (5, ["one", "tw"]), (99, ["one", "two"])],
)
def test_text_is_cut_over_all_its_parts(upto: int, texts: list[str]) -> None:
    history = History([item("a", "one", "two")])
    history.truncate("a", upto)
    (cut,) = history.items
    assert cut == item("a", *texts)


def test_only_text_is_cut() -> None:
    call = ToolCall("c", "look", "{}")
    history = History([Item("a", Role.ASSISTANT, (Text("one"), call))])
    history.truncate("a", 1)
    assert history.items == (Item("a", Role.ASSISTANT, (Text("o"), call)),)


def test_what_is_not_here_is_no_error() -> None:
    history = History([answer_item("a", "yes")])
    history.truncate("gone", 0)
    history.delete("gone")
    history.replace_content("gone", ())
    assert history.get("gone") is None
    assert history.items == (answer_item("a", "yes"),)
    assert len(history) == 1


def test_a_snapshot_does_not_change() -> None:
    history = History([item("a", "one")])
    before = history.items
    history.truncate("a", 1)
    history.delete("a")
    assert before == (item("a", "one"),)
