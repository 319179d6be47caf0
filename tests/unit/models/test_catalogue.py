"""The catalogue is consistent with itself."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.models.catalogue import CATALOGUE, Model, Pin

MODELS = pytest.mark.parametrize("model", CATALOGUE.values(), ids=CATALOGUE)


@MODELS
def test_pins_are_sha256_digests_and_revisions_full_commits(model: Model) -> None:
    pins = [file.pin for file in model.files]
    pins += [member.pin for file in model.files for member in file.members]

    assert [pin for pin in pins if not re.fullmatch("[0-9a-f]{64}", pin.sha256)] == []
    assert model.hub is None or re.fullmatch("[0-9a-f]{40}", model.hub.revision)


@MODELS
def test_members_add_up_to_their_file(model: Model) -> None:
    for file in model.files:
        sizes = [member.pin.size_bytes for member in file.members]
        assert sum(sizes) == file.pin.size_bytes
        if len(file.members) == 1:
            assert file.members[0].pin == file.pin


def test_the_embedded_engine_and_the_detectors_are_there() -> None:
    assert set(CATALOGUE) == {"whisper-base", "smollm2-135m-instruct", "silero-vad", "smart-turn"}


def test_the_guide_names_the_wheels_that_are_read() -> None:
    members = [
        member for model in CATALOGUE.values() for file in model.files for member in file.members
    ]
    asked = [member.package.requirement for member in members]
    guide = (Path(__file__).parents[3] / "docs/models.md").read_text("utf-8")
    assert [package for package in asked if package not in guide] == []


def test_another_pin_is_another_folder() -> None:
    model = CATALOGUE["silero-vad"]
    file = model.files[0]
    other = replace(model, files=(replace(file, pin=Pin("0" * 64, file.pin.size_bytes)),))

    assert other.folder_name != model.folder_name
    assert model.folder_name.startswith("silero-vad-")
