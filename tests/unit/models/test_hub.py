"""The hub is not asked when it must not or cannot be; asking it is in the integration tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.models.progress import Meter, ignore_progress
from agent.models.sources import SourceFailed
from agent.models.sources.hub import HubSource
from agent.models.staging import Staging
from tests.helpers.models import tiny_model


def _fetch(source: HubSource, folder: Path, *, on_hub: bool = True) -> None:
    model = tiny_model() if on_hub else replace(tiny_model(), hub=None)
    source.fetch(model, model.files, Staging(folder), Meter("tiny", 1, ignore_progress))


@pytest.mark.parametrize("word", ["1", "true", "YES", "on"])
def test_the_offline_switch_is_obeyed(tmp_path: Path, word: str) -> None:
    source = HubSource.from_environment({"HF_HUB_OFFLINE": word})

    with pytest.raises(SourceFailed, match="HF_HUB_OFFLINE is set"):
        _fetch(source, tmp_path)


def test_an_endpoint_that_is_no_address_is_named(tmp_path: Path) -> None:
    source = HubSource.from_environment({"HF_ENDPOINT": "file:///etc"})

    with pytest.raises(SourceFailed, match="HF_ENDPOINT is 'file:///etc'"):
        _fetch(source, tmp_path)


def test_a_model_that_is_not_on_the_hub_is_not_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="not fetched from the hub"):
        _fetch(HubSource(), tmp_path, on_hub=False)
