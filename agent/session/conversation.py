"""The conversation's history: items in order, as the client knows them."""

from __future__ import annotations

from collections.abc import Iterator

from agent.errors import InvalidEvent, LimitExceeded
from agent.session.items import Item

ROOT = "root"
"""As `previous_item_id` it means the head of the conversation."""


class History:
    """An ordered set of items.

    Args:
        max_items: How many there may be.
    """

    def __init__(self, max_items: int) -> None:
        self._items: list[Item] = []
        self._max_items = max_items

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: object) -> bool:
        return any(item.id == item_id for item in self._items)

    @property
    def last_id(self) -> str | None:
        """The id of the last item, or None."""
        return self._items[-1].id if self._items else None

    @property
    def is_full(self) -> bool:
        """Whether another item would be one too many."""
        return len(self._items) >= self._max_items

    def find(self, item_id: str) -> Item | None:
        """The item of that id, or None."""
        return next((item for item in self._items if item.id == item_id), None)

    def get(self, item_id: str, *, code: str, param: str = "item_id") -> Item:
        """The item of that id.

        Raises:
            InvalidEvent: With `code` and `param`, when there is none.
        """
        item = self.find(item_id)
        if item is None:
            raise InvalidEvent(
                f"there is no item {item_id!r} in this conversation", code=code, param=param
            )
        return item

    def place(self, previous_item_id: str | None) -> str | None:
        """Where a client's item goes: the id it follows, None for the head.

        Args:
            previous_item_id: As sent: an id, `root`, or None for the end.

        Raises:
            InvalidEvent: There is no such item.
        """
        if previous_item_id == ROOT:
            return None
        if previous_item_id is None:
            return self.last_id
        self.get(
            previous_item_id, code="item_create_invalid_previous_item_id", param="previous_item_id"
        )
        return previous_item_id

    def insert(self, item: Item, after: str | None) -> None:
        """Add an item after item `after` (None: at the head).

        Raises:
            InvalidEvent: The id is taken.
            LimitExceeded: There are as many items as may be.
        """
        if item.id in self:
            raise InvalidEvent(
                f"there is an item {item.id!r} already; leave the id out or choose another",
                code="item_create_duplicate_item_id",
                param="item.id",
            )
        if self.is_full:
            raise LimitExceeded(
                f"a conversation holds at most {self._max_items} items; delete some first",
                code="too_many_items",
                param="item",
            )
        self._items.insert(self._index(after) + 1, item)

    def replace(self, item: Item) -> None:
        """Put a changed item in the place of the one with the same id."""
        self._items[self._index(item.id)] = item

    def delete(self, item_id: str) -> None:
        """Remove an item that is there."""
        del self._items[self._index(item_id)]

    def keep_last(self, items: int) -> None:
        """Remove the oldest items until at most so many are left, and there is room."""
        kept = min(items, self._max_items - 1)
        self._items = self._items[max(0, len(self._items) - kept) :]

    def predecessor(self, item_id: str) -> str | None:
        """The id of the item before that one, None at the head."""
        index = self._index(item_id)
        return self._items[index - 1].id if index else None

    def _index(self, item_id: str | None) -> int:
        if item_id is None:
            return -1
        return next(index for index, item in enumerate(self._items) if item.id == item_id)
