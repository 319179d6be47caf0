"""The constraints file pins all that the project and its extras need."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What the CUDA build of torch pins itself.
PINNED_BY_TORCH = ("cuda-", "nvidia-", "triton")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def _pins() -> dict[str, Requirement]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def _closure(root: Requirement) -> set[str]:
    """Names of all distributions that `root` needs here, by what is installed."""
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(root.name, extra) for extra in ("", *root.extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            requirements = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue  # an extra that is not installed; its own name is still asked for
        for requirement in requirements:
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                if needed.startswith(PINNED_BY_TORCH):
                    continue
                names.add(needed)
                todo.extend((needed, wanted) for wanted in ("", *requirement.extras))
    return names - {root.name}


def test_every_distribution_that_is_needed_is_pinned_to_one_version() -> None:
    pins = _pins()

    needed = _closure(Requirement("voice-agent[small,gemma,webrtc,mic,dev]"))

    assert len(needed) > 50
    assert sorted(needed - pins.keys()) == []


def test_each_pin_is_one_exact_version() -> None:
    loose = [
        str(pin) for pin in _pins().values() if [spec.operator for spec in pin.specifier] != ["=="]
    ]

    assert loose == []
