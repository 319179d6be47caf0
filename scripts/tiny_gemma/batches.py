"""Batches of dialogues as arrays of fixed sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.tiny_gemma.dialogues import Clip, Dialogue, Maker
from scripts.tiny_gemma.shapes import BLANK, IGNORE, MAX_PIECES, Shape
from scripts.tiny_gemma.voices import Bank


def batch(
    maker: Maker, bank: Bank, shape: Shape, task: str | None = None
) -> dict[str, NDArray[Any]]:
    """One batch of arrays.

    Returns:
        `ids`, `labels`, `audio_index`, `ordinals` int32[rows, tokens]; `reply` int32[rows, 2]
        (first token and end of the last reply); `events` int32[clips, soft_tokens];
        `samples` int32[clips]; `starts`, `offsets`, `lengths` int32 and `speeds`, `gains`
        float32[clips, MAX_PIECES].
    """
    rows, clips = shape.rows, shape.clips
    out: dict[str, NDArray[Any]] = {
        "ids": np.zeros((rows, shape.tokens), np.int32),
        "labels": np.full((rows, shape.tokens), IGNORE, np.int32),
        "audio_index": np.full((rows, shape.tokens), -1, np.int32),
        "ordinals": np.full((rows, shape.tokens), IGNORE, np.int32),
        "reply": np.zeros((rows, 2), np.int32),
        "events": np.full((clips, shape.soft_tokens), IGNORE, np.int32),
        "samples": np.zeros(clips, np.int32),
        "starts": np.full((clips, MAX_PIECES), 2**30, np.int32),
        "offsets": np.zeros((clips, MAX_PIECES), np.int32),
        "lengths": np.zeros((clips, MAX_PIECES), np.int32),
        "speeds": np.ones((clips, MAX_PIECES), np.float32),
        "gains": np.zeros((clips, MAX_PIECES), np.float32),
    }
    used = 0
    for row in range(rows):
        left = min(clips - used - (rows - row - 1), 8)
        dialogue = maker.dialogue(shape, left, task)
        _write_row(out, row, dialogue, first_clip=used, shape=shape, audio_id=maker.audio_id)
        for index, clip in enumerate(dialogue.clips, used):
            _write_clip(out, index, clip, bank)
        used += len(dialogue.clips)
    return out


def _write_row(
    out: dict[str, NDArray[Any]],
    row: int,
    dialogue: Dialogue,
    *,
    first_clip: int,
    shape: Shape,
    audio_id: int,
) -> None:
    ids = np.array(dialogue.ids, np.int32)
    count = len(ids)
    out["ids"][row, :count] = ids
    learn = np.array(dialogue.learn)
    out["labels"][row, :count][learn] = ids[learn]
    index = np.concatenate(
        [
            np.arange(clip.soft_tokens) + slot * shape.soft_tokens
            for slot, clip in enumerate(dialogue.clips, first_clip)
        ]
        or [np.zeros(0)]
    )
    out["audio_index"][row, :count][ids == audio_id] = index
    for position, ordinal in dialogue.ordinals.items():
        out["ordinals"][row, position] = ordinal
    # Without the line break that follows the end of a turn.
    out["reply"][row] = dialogue.reply_at, count - 1


def _write_clip(out: dict[str, NDArray[Any]], slot: int, clip: Clip, bank: Bank) -> None:
    out["samples"][slot] = clip.samples
    for piece, (run, start, speed, gain) in enumerate(clip.pieces):
        out["starts"][slot, piece] = start
        out["offsets"][slot, piece] = bank.offsets[run]
        out["lengths"][slot, piece] = bank.lengths[run]
        out["speeds"][slot, piece] = speed
        out["gains"][slot, piece] = gain
    labels = out["events"][slot]
    labels[: clip.soft_tokens] = BLANK
    for event in clip.events():
        # A token too early or too late is no mistake.
        labels[max(event - 1, 0) : event + 2] = IGNORE
    for event, digit in zip(clip.events(), clip.digits, strict=True):
        labels[event] = digit
