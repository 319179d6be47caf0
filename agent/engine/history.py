"""The items of a conversation and what may be done to them; shared by all who keep them.

An item that is not here is no error: an assistant turn of which nothing was received has
no item in the engine, while its session may still name it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from agent.engine.items import Content, Item, Role, Text


class History:
    """An ordered list of items with unique ids."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._items: list[Item] = []
        for item in items:
            self.insert(item)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, the oldest first; a snapshot."""
        return tuple(self._items)

    def get(self, item_id: str) -> Item | None:
        """The item of that id, or None."""
        return next((item for item in self._items if item.id == item_id), None)

    def insert(self, item: Item, after: str | None = None, *, head: bool = False) -> None:
        """Add an item after `after`; at the end when that is None or not here.

        Raises:
            ValueError: There is an item of this id already.
        """
        if self._index(item.id) is not None:
            raise ValueError(f"there is an item {item.id!r} already")
        index = None if after is None else self._index(after)
        if head:
            self._items.insert(0, item)
        elif index is None:
            self._items.append(item)
        else:
            self._items.insert(index + 1, item)

    def replace_content(self, item_id: str, content: tuple[Content, ...]) -> None:
        """Give an item other content."""
        index = self._index(item_id)
        if index is not None:
            self._items[index] = replace(self._items[index], content=content)

    def truncate(self, item_id: str, upto: int) -> None:
        """Cut an item's text, all its parts counted as one, to its first `upto` characters."""
        item = self.get(item_id)
        if item is None:
            return
        kept: list[Content] = []
        for part in item.content:
            if not isinstance(part, Text):
                kept.append(part)
            elif upto > 0:
                kept.append(Text(part.text[:upto]))
                upto -= len(part.text)
        self.replace_content(item_id, tuple(kept))

    def delete(self, item_id: str) -> None:
        """Remove an item."""
        index = self._index(item_id)
        if index is not None:
            del self._items[index]

    def _index(self, item_id: str) -> int | None:
        return next((i for i, item in enumerate(self._items) if item.id == item_id), None)


def answer_item(item_id: str, text: str) -> Item:
    """An assistant item of plain text."""
    return Item(item_id, Role.ASSISTANT, (Text(text),))
