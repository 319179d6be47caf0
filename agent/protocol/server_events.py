"""What the server says: one function per event, each giving a JSON-ready dict.

`event_id` is added by the session, which counts its events. Field names and shapes follow
`openai.types.realtime` 3.54; the tests validate every one of these against those types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.errors import LocalError, RemoteError

Event = dict[str, Any]
Wire = dict[str, Any]

EXTENSION_PREFIX = "voice_agent."
"""Events of our own; only sent to clients that asked for them."""


def error(cause: RemoteError | LocalError, event_id: str | None = None) -> Event:
    """Something went wrong; the session goes on."""
    remote = isinstance(cause, RemoteError)
    return {
        "type": "error",
        "error": {
            "type": cause.type if isinstance(cause, RemoteError) else "server_error",
            "code": cause.code,
            "message": str(cause),
            "param": cause.param if isinstance(cause, RemoteError) else None,
            "event_id": event_id if remote else None,
        },
    }


def session_created(session: Wire) -> Event:
    """The first event of every session."""
    return {"type": "session.created", "session": session}


def session_updated(session: Wire) -> Event:
    """All settings as they are in effect."""
    return {"type": "session.updated", "session": session}


def session_closed() -> Event:
    """All that was said is translated; the last event of a translation session."""
    return {"type": "session.closed"}


def input_transcript_delta(delta: str, elapsed_ms: int) -> Event:
    """More of what was said, in a translation session."""
    return {"type": "session.input_transcript.delta", "delta": delta, "elapsed_ms": elapsed_ms}


def output_transcript_delta(delta: str, elapsed_ms: int, language: str | None = None) -> Event:
    """More of the translation; extension `timings`: with the language it is in."""
    event: Event = {
        "type": "session.output_transcript.delta",
        "delta": delta,
        "elapsed_ms": elapsed_ms,
    }
    return event if language is None else event | {"language": language}


def speech_started(item_id: str, audio_start_ms: int) -> Event:
    """Somebody speaks; `item_id` is the item that this turn will become."""
    return {
        "type": "input_audio_buffer.speech_started",
        "item_id": item_id,
        "audio_start_ms": audio_start_ms,
    }


def speech_stopped(item_id: str, audio_end_ms: int) -> Event:
    """The turn is over."""
    return {
        "type": "input_audio_buffer.speech_stopped",
        "item_id": item_id,
        "audio_end_ms": audio_end_ms,
    }


def timeout_triggered(item_id: str, audio_start_ms: int, audio_end_ms: int) -> Event:
    """Nobody spoke since the last answer; the silence becomes the item `item_id`.

    Only for clients that asked for `idle_timeout_ms`: others may not know this event.
    """
    return {
        "type": "input_audio_buffer.timeout_triggered",
        "item_id": item_id,
        "audio_start_ms": audio_start_ms,
        "audio_end_ms": audio_end_ms,
    }


def audio_committed(item_id: str, previous_item_id: str | None) -> Event:
    """What was heard is an item now."""
    return {
        "type": "input_audio_buffer.committed",
        "item_id": item_id,
        "previous_item_id": previous_item_id,
    }


def audio_cleared() -> Event:
    """What was heard and not committed is forgotten."""
    return {"type": "input_audio_buffer.cleared"}


def item_added(item: Wire, previous_item_id: str | None) -> Event:
    """An item is part of the conversation."""
    return {
        "type": "conversation.item.added",
        "item": item,
        "previous_item_id": previous_item_id,
    }


def item_done(item: Wire, previous_item_id: str | None) -> Event:
    """An item is complete."""
    return {
        "type": "conversation.item.done",
        "item": item,
        "previous_item_id": previous_item_id,
    }


def item_retrieved(item: Wire) -> Event:
    """An item as the server holds it."""
    return {"type": "conversation.item.retrieved", "item": item}


def item_deleted(item_id: str) -> Event:
    """An item is gone."""
    return {"type": "conversation.item.deleted", "item_id": item_id}


def item_truncated(item_id: str, audio_end_ms: int) -> Event:
    """An item ends where the client said."""
    return {
        "type": "conversation.item.truncated",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": audio_end_ms,
    }


def transcription_delta(item_id: str, delta: str) -> Event:
    """More of what was said in an item, or is being said in what will be that item."""
    return {
        "type": "conversation.item.input_audio_transcription.delta",
        "item_id": item_id,
        "content_index": 0,
        "delta": delta,
    }


def transcription_completed(item_id: str, transcript: str, audio_s: float) -> Event:
    """What was said in an item."""
    return {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": item_id,
        "content_index": 0,
        "transcript": transcript,
        "usage": {"type": "duration", "seconds": round(audio_s, 3)},
    }


def transcription_failed(item_id: str, code: str, message: str) -> Event:
    """What was said in an item could not be made out."""
    return {
        "type": "conversation.item.input_audio_transcription.failed",
        "item_id": item_id,
        "content_index": 0,
        "error": {"type": "server_error", "code": code, "message": message, "param": None},
    }


def response_created(response: Wire) -> Event:
    """An answer has begun."""
    return {"type": "response.created", "response": response}


def response_done(response: Wire) -> Event:
    """An answer has ended, in whatever way."""
    return {"type": "response.done", "response": response}


def output_item_added(response_id: str, item: Wire) -> Event:
    """The answer has an item."""
    return {
        "type": "response.output_item.added",
        "response_id": response_id,
        "output_index": 0,
        "item": item,
    }


def output_item_done(response_id: str, item: Wire) -> Event:
    """The answer's item is complete."""
    return {
        "type": "response.output_item.done",
        "response_id": response_id,
        "output_index": 0,
        "item": item,
    }


def content_part_added(response_id: str, item_id: str) -> Event:
    """The answer's item has a text part. The *part* is `text`, the content `output_text`."""
    return _part_event("response.content_part.added", response_id, item_id) | {
        "part": {"type": "text", "text": ""}
    }


def content_part_done(response_id: str, item_id: str, text: str) -> Event:
    """The text part is complete."""
    return _part_event("response.content_part.done", response_id, item_id) | {
        "part": {"type": "text", "text": text}
    }


def text_delta(response_id: str, item_id: str, delta: str) -> Event:
    """More text of the answer."""
    return _part_event("response.output_text.delta", response_id, item_id) | {"delta": delta}


def text_done(response_id: str, item_id: str, text: str) -> Event:
    """The whole text of the answer."""
    return _part_event("response.output_text.done", response_id, item_id) | {"text": text}


def _part_event(kind: str, response_id: str, item_id: str) -> Event:
    return {
        "type": kind,
        "response_id": response_id,
        "item_id": item_id,
        "output_index": 0,
        "content_index": 0,
    }


def response_object(
    *,
    response_id: str,
    conversation_id: str | None,
    status: str,
    status_details: Wire | None,
    output: Sequence[Wire],
    max_output_tokens: int | str,
    metadata: dict[str, str] | None,
    usage: Wire | None,
) -> Wire:
    """The `response` of `response.created` and `response.done`."""
    return {
        "object": "realtime.response",
        "id": response_id,
        "conversation_id": conversation_id,
        "status": status,
        "status_details": status_details,
        "output": list(output),
        "output_modalities": ["text"],
        "max_output_tokens": max_output_tokens,
        "metadata": metadata,
        "usage": usage,
    }


def usage_object(
    *,
    text_tokens: int,
    audio_tokens: int,
    cached_tokens: int,
    output_tokens: int,
    dropped_items: int = 0,
    summarised_items: int = 0,
) -> Wire:
    """The `usage` of `response.done`; pipecat insists on both `*_token_details`.

    The numbers of items are ours. They are in the details because every client we read takes
    further integers there, and only where the conversation outgrew its context.
    """
    input_tokens = text_tokens + audio_tokens
    absent = {"dropped_items": dropped_items, "summarised_items": summarised_items}
    return {
        "total_tokens": input_tokens + output_tokens,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "input_token_details": {
            "text_tokens": text_tokens,
            "audio_tokens": audio_tokens,
            "image_tokens": 0,
            "cached_tokens": cached_tokens,
            **{name: items for name, items in absent.items() if items},
        },
        "output_token_details": {"text_tokens": output_tokens, "audio_tokens": 0},
    }


def turn_timings(
    *,
    item_id: str,
    response_id: str | None,
    speech_end_ms: int,
    turn_end_delay_ms: float,
    speech_end_to_first_token_ms: float | None,
    stages_ms: dict[str, float],
) -> Event:
    """Extension `timings`: where the time of one spoken turn went."""
    return {
        "type": f"{EXTENSION_PREFIX}turn.timings",
        "item_id": item_id,
        "response_id": response_id,
        "speech_end_ms": speech_end_ms,
        "turn_end_delay_ms": turn_end_delay_ms,
        "speech_end_to_first_token_ms": speech_end_to_first_token_ms,
        "stages_ms": stages_ms,
    }


def segment_timings(
    *,
    item_id: str,
    start_ms: int,
    end_ms: int,
    status: str,
    speech_end_to_first_text_ms: float | None,
    speech_end_to_done_ms: float,
    backlog_s: float,
) -> Event:
    """Extension `timings`: one segment of a translation is done; `backlog_s` waits after it."""
    return {
        "type": f"{EXTENSION_PREFIX}segment.timings",
        "item_id": item_id,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "status": status,
        "speech_end_to_first_text_ms": speech_end_to_first_text_ms,
        "speech_end_to_done_ms": speech_end_to_done_ms,
        "backlog_s": backlog_s,
    }


def session_expiring(reason: str, remaining_s: float) -> Event:
    """Extension `timings`: the session ends soon, and why."""
    return {
        "type": f"{EXTENSION_PREFIX}session.expiring",
        "reason": reason,
        "remaining_s": round(remaining_s, 1),
    }
