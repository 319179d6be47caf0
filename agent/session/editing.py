"""What a client does to the conversation's items: create, delete, retrieve, truncate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.errors import InvalidEvent
from agent.protocol import server_events
from agent.protocol.client_events import ItemCreate, ItemTruncate
from agent.protocol.items import WireReference, parse_input, parse_item
from agent.session.commands import InsertItem, TruncateItem
from agent.session.conversation import History
from agent.session.created import ItemMaker
from agent.session.items import AudioPart, Item, TextPart
from agent.session.outbox import Outbox
from agent.session.responses import Responses


class Editing:
    """Carries out the client's changes to the history.

    Args:
        history: The conversation.
        responses: Told about items that go away under an answer in progress.
        outbox: Where events and commands go.
    """

    def __init__(self, history: History, responses: Responses, outbox: Outbox) -> None:
        self._history = history
        self._responses = responses
        self._outbox = outbox

    def create(self, event: ItemCreate, maker: ItemMaker) -> None:
        """Add an item where the client wants it.

        Raises:
            RemoteError: The item cannot be used, its id is taken, or there are too many.
        """
        wire = parse_item(event.item)
        after = self._history.place(event.previous_item_id)
        item = maker.make(wire)
        self._history.insert(_without_clips(item), after)
        self._outbox.put(InsertItem(item, self._responses.settled(after)))
        self._outbox.send(server_events.item_added(item.to_wire(), after))
        self._outbox.send(server_events.item_done(item.to_wire(), after))

    def delete(self, item_id: str) -> None:
        """Remove an item.

        Raises:
            InvalidEvent: There is none of that id.
        """
        self._history.get(item_id, code="item_delete_invalid_item_id")
        self._responses.delete_item(item_id)

    def retrieve(self, item_id: str) -> None:
        """Show an item; its audio is not kept for that.

        Raises:
            InvalidEvent: There is none of that id.
        """
        item = self._history.get(item_id, code="item_retrieve_invalid_item_id")
        self._outbox.send(server_events.item_retrieved(item.to_wire()))

    def truncate(self, event: ItemTruncate) -> None:
        """Cut an assistant item to what the user got to know of it.

        Raises:
            InvalidEvent: It is none, is still being written, or is shorter than that.
        """
        item = self._history.get(event.item_id, code="item_truncate_invalid_item_id")
        if item.role != "assistant":
            raise InvalidEvent("only assistant messages can be truncated", param="item_id")
        if item.status == "in_progress":
            raise InvalidEvent(
                "this item is still being written; send response.cancel first", param="item_id"
            )
        if event.text_end is None:
            raise InvalidEvent(
                "this is a text item: send text_end, the number of characters to keep "
                "(audio_end_ms means nothing for text)",
                code="missing_required_parameter",
                param="text_end",
            )
        if event.text_end > len(item.text):
            raise InvalidEvent(
                f"the item has {len(item.text)} characters, text_end is {event.text_end}",
                param="text_end",
            )
        cut = replace(item, parts=(TextPart(item.text[: event.text_end]),))
        self._history.replace(cut)
        self._outbox.put(TruncateItem(item.id, event.text_end))
        self._outbox.send(server_events.item_truncated(item.id, event.audio_end_ms or 0))

    def context(
        self, entries: list[dict[str, Any]] | None, maker: ItemMaker
    ) -> tuple[Item | str, ...] | None:
        """A response's own input; items of the conversation are named, not copied.

        Raises:
            RemoteError: An entry cannot be used; `param` names it.
        """
        if entries is None:
            return None
        context: list[Item | str] = []
        for index, raw in enumerate(entries):
            path = f"response.input.{index}"
            wire = parse_input(raw, path)
            if isinstance(wire, WireReference):
                self._history.get(wire.id, code="invalid_item_reference", param=f"{path}.id")
                context.append(wire.id)
            elif wire.id is not None and wire.id in self._history:
                context.append(wire.id)
            else:
                context.append(maker.make(wire, path))
        return tuple(context)


def _without_clips(item: Item) -> Item:
    """The item as the history keeps it: audio lives in the engine alone."""
    parts = tuple(
        replace(part, clips=()) if isinstance(part, AudioPart) else part for part in item.parts
    )
    return replace(item, parts=parts)
