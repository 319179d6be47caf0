"""Pieces become finished only when their bytes are right."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from agent.models.staging import Staging, WrongBytes
from tests.helpers.models import pin_of


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    staging = Staging(tmp_path / "staging")
    staging.prepare()
    return staging


def test_a_piece_with_the_right_bytes_is_taken(staging: Staging) -> None:
    pin = pin_of(b"right")

    staging.take(pin, io.BytesIO(b"right"))

    assert staging.has(pin)
    assert staging.piece(pin).read_bytes() == b"right"
    assert not staging.partial(pin).exists()


@pytest.mark.parametrize("data", [b"wrong", b"short"[:3], b"right and more", b""])
def test_a_piece_with_other_bytes_is_thrown_away(staging: Staging, data: bytes) -> None:
    pin = pin_of(b"right")

    with pytest.raises(WrongBytes):
        staging.take(pin, io.BytesIO(data))

    assert list(staging.folder.iterdir()) == []


def test_an_endless_stream_is_not_read_to_its_end(staging: Staging) -> None:
    class Endless(io.RawIOBase):
        given_bytes = 0

        def read(self, size: int = -1, /) -> bytes:
            self.given_bytes += size
            return b"x" * size

    stream = Endless()

    with pytest.raises(WrongBytes, match="is 6 bytes long instead of 5"):
        staging.take(pin_of(b"right"), stream)

    assert stream.given_bytes == 6


def test_pieces_join_in_order(staging: Staging) -> None:
    parts = [b"one ", b"two ", b"three"]
    for part in parts:
        staging.take(pin_of(part), io.BytesIO(part))

    staging.join([pin_of(part) for part in parts], pin_of(b"one two three"))

    assert staging.piece(pin_of(b"one two three")).read_bytes() == b"one two three"
    with pytest.raises(WrongBytes):
        staging.join([pin_of(part) for part in reversed(parts)], pin_of(b"other"))


def test_scratch_removes_what_a_killed_process_left(staging: Staging) -> None:
    (staging.folder / "scratch-old").mkdir()
    (staging.folder / "scratch-old" / "half.whl").write_bytes(b"half")

    with staging.scratch() as scratch:
        assert scratch.is_dir()
        assert [path.name for path in staging.folder.iterdir()] == [scratch.name]

    assert list(staging.folder.iterdir()) == []


def test_clearing_twice_is_harmless(staging: Staging) -> None:
    staging.clear()
    staging.clear()

    assert not staging.folder.exists()
