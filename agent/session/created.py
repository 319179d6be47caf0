"""Items that a client creates: from the wire's shape to the session's."""

from __future__ import annotations

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.intake import AudioIntake
from agent.audio.pcm import AudioFormat, Samples, encode_pcm16
from agent.config import VadSettings
from agent.errors import InvalidEvent, LimitExceeded
from agent.protocol.client_events import decode_base64
from agent.protocol.items import (
    WireFunctionCall,
    WireFunctionOutput,
    WireItem,
    WireMessage,
    WirePart,
)
from agent.session.items import AudioPart, Item, TextPart
from agent.session.outbox import NewId
from agent.vad.events import Cut
from agent.vad.segmenter import Segmenter


class ItemMaker:
    """Makes items out of what a client sent.

    Args:
        audio_format: The session's input format, in which items hold their audio too.
        vad: Limits of a clip.
        max_chars: Longest text an item may have.
        new_id: Names items that the client gave no id.
    """

    def __init__(
        self, audio_format: AudioFormat, vad: VadSettings, max_chars: int, new_id: NewId
    ) -> None:
        self._new_id = new_id
        self._audio_format = audio_format
        self._vad = vad
        self._max_chars = max_chars

    def make(self, wire: WireItem, path: str = "item") -> Item:
        """One item, complete.

        Raises:
            InvalidEvent: A part cannot be used; `param` names it.
            LimitExceeded: A text is too long.
        """
        item_id = wire.id or self._new_id("item")
        match wire:
            case WireFunctionCall():
                call = {"name": wire.name, "arguments": wire.arguments}
                call["call_id"] = wire.call_id or item_id
                self._check_length(wire.arguments, f"{path}.arguments")
                return Item(id=item_id, type="function_call", call=call)
            case WireFunctionOutput():
                self._check_length(wire.output, f"{path}.output")
                call = {"call_id": wire.call_id, "output": wire.output}
                return Item(id=item_id, type="function_call_output", call=call)
            case WireMessage():
                parts = tuple(
                    self._part(part, f"{path}.content.{index}")
                    for index, part in enumerate(wire.content)
                )
                return Item(id=item_id, role=wire.role, parts=parts)

    def _part(self, part: WirePart, path: str) -> TextPart | AudioPart:
        if part.type == "input_image":
            raise InvalidEvent("this server's model does not see images", param=f"{path}.type")
        if part.type == "input_audio":
            clips = self._clips(part.audio, f"{path}.audio") if part.audio is not None else ()
            return AudioPart(transcript=part.transcript, clips=clips)
        text = part.transcript if part.type == "output_audio" else part.text
        assert text is not None  # checked by agent.protocol.items
        self._check_length(text, f"{path}.text")
        return TextPart(text)

    def _check_length(self, text: str, path: str) -> None:
        if len(text) > self._max_chars:
            raise LimitExceeded(
                f"at most {self._max_chars} characters (got {len(text)})",
                code="string_above_max_length",
                param=path,
            )

    def _clips(self, audio: str, path: str) -> tuple[bytes, ...]:
        intake = AudioIntake(self._audio_format)
        data = decode_base64(audio, path)
        try:
            samples = np.concatenate([intake.push(data), intake.flush()])
        except InvalidEvent as error:
            raise InvalidEvent(error.message, code=error.code, param=path) from error
        if not len(samples):
            raise InvalidEvent("this part has no audio in it", param=path)
        return tuple(encode_pcm16(clip) for clip in cut_into_clips(samples, self._vad))


def cut_into_clips(samples: Samples, vad: VadSettings) -> list[Samples]:
    """Cut audio of any length into clips the model can hear, at its quietest places.

    Args:
        samples: float32[T], mono, 16 kHz.
        vad: Limits of a clip.

    Returns:
        Clips that joined are the input.
    """
    segmenter = Segmenter(vad, manual=True)
    cuts = [
        event.keep_samples
        for start in range(0, len(samples), FRAME_SAMPLES)
        for event in segmenter.push(samples[start : start + FRAME_SAMPLES], 1.0)
        if isinstance(event, Cut)
    ]
    return np.split(samples, np.cumsum(cuts, dtype=np.int64))
