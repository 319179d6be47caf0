"""Every setting, with its default, once; validated when the program starts.

Sources, the strongest first: command line, environment (`VOICE_AGENT_PORT`,
`VOICE_AGENT_LIMITS__MAX_SESSIONS`), a TOML file (`--config`, or `VOICE_AGENT_CONFIG`),
the defaults below.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from agent.errors import ConfigError
from agent.field_names import likely_place
from agent.languages import LanguageCode

ENV_PREFIX = "VOICE_AGENT_"

Milliseconds = Annotated[int, Field(ge=0, le=600_000)]


class Group(BaseModel):
    """A group of settings; unknown keys are refused so that a typo is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScorerName(StrEnum):
    """Which model says whether a frame is speech."""

    AUTO = "auto"  # the best that is installed
    CASCADE = "cascade"
    SILERO = "silero"
    WEBRTC = "webrtc"


MIN_SILENCE_MS, MAX_SILENCE_MS, MAX_PREFIX_PADDING_MS = 100, 10_000, 5_000
"""What clients may set of `server_vad`."""


class VadSettings(Group):
    """How speech is found. Times are rounded up to whole 32 ms frames."""

    scorer: ScorerName = ScorerName.AUTO
    # Silero's own recommendation for start; the lower bound to go on is 0.15 below it.
    threshold: float = Field(0.5, gt=0.0, lt=1.0)
    prefix_padding_ms: Milliseconds = 300
    # Sound since the last turn that may have been speech begins the next one if it is no older.
    reach_back_s: float = Field(7.0, ge=0.0, le=15.0)
    hearing_after_ms: Milliseconds = 64
    # Five frames. Four announced 2.5 turns in an hour of quiet music, five 0.5, and no speech of
    # the benchmark's dialogues was lost by it.
    min_speech_ms: Milliseconds = 160
    misfire_silence_ms: Milliseconds = 200
    early_pause_ms: Milliseconds = 180
    silence_duration_ms: Milliseconds = 500
    max_turn_s: float = Field(120.0, gt=1.0, le=3600.0)
    # From here on the pause that is needed to cut a clip shrinks; at the hard limit the
    # cut falls on the quietest frame of the last `cut_window_s`.
    clip_soft_limit_s: float = Field(20.0, gt=1.0, lt=30.0)
    clip_hard_limit_s: float = Field(29.5, gt=1.0, lt=30.0)
    cut_window_s: float = Field(5.0, gt=0.1, lt=15.0)
    # Uncommitted audio of a client that ends its turns itself.
    max_manual_turn_s: float = Field(600.0, gt=0.0, le=7200.0)

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> VadSettings:
        if not self.clip_soft_limit_s < self.clip_hard_limit_s:
            raise ValueError("clip_soft_limit_s must be below clip_hard_limit_s")
        if not self.cut_window_s < self.clip_hard_limit_s:
            raise ValueError("cut_window_s must be below clip_hard_limit_s")
        if not self.clip_hard_limit_s < self.max_turn_s:
            raise ValueError("max_turn_s must be above clip_hard_limit_s")
        return self


class TurnScorerName(StrEnum):
    """Which model says whether the speaker has finished."""

    AUTO = "auto"  # smart-turn where it can run
    SMART_TURN = "smart-turn"
    MODEL = "model"  # the engine's own, where it hears
    NONE = "none"  # fixed waits


class TurnSettings(Group):
    """When a turn of a client with `semantic_vad` ends. How much noise is tolerated is the
    VAD's `threshold`."""

    scorer: TurnScorerName = TurnScorerName.AUTO
    # Probability of the end from which on the wait is the shortest one.
    # Smart Turn at 0.92, asked after 120 ms, calls six tenths of the ends of recordings over, and
    # not quite three tenths of the pauses put into them.
    eot_threshold: float = Field(0.92, gt=0.0, le=1.0)
    min_endpointing_delay_ms: Milliseconds = 250
    # A silence is judged from so much on, so that the score is there when the shortest wait
    # is over. Another delay may want another threshold.
    judge_after_ms: Milliseconds = 120
    # None for what the client's eagerness says; at most 8, 4 or 2 s in any case.
    max_endpointing_delay_ms: Milliseconds | None = None
    # Pauses scored at a time, a core each. With more than that to do the waits are fixed.
    threads: int = Field(1, ge=1, le=64)


class Limits(Group):
    """What a stranger can make this server do at most."""

    max_sessions: int = Field(256, ge=1)
    max_message_bytes: int = Field(8 * 1024 * 1024, ge=1024)
    max_items: int = Field(1000, ge=1)
    max_item_chars: int = Field(100_000, ge=1)
    max_session_s: float = Field(3600.0, gt=0.0)
    idle_timeout_s: float = Field(900.0, gt=0.0)
    # How long before either of them strikes a client that asked for our events is told.
    expiry_warning_s: float = Field(60.0, ge=0.0)
    # Audio that has arrived and is not processed yet; beyond it the socket is read slowly …
    max_audio_backlog_s: float = Field(60.0, gt=0.0)
    # … and with so much waiting in a session not at all; then its client's pings go unanswered.
    max_waiting_bytes: int = Field(32 * 1024 * 1024, ge=1024)
    shutdown_grace_s: float = Field(20.0, ge=0.0)


Origin = Annotated[str, Field(pattern=r"^(null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+/?)$")]
"""As browsers send it: scheme, host and, where it is not the scheme's own, the port."""

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:\[\]-]+$")]
"""A name or an address, without a scheme and a path."""

IceUrl = Annotated[str, Field(pattern=r"^(stun|turn)s?:[^/?]+(\?transport=(udp|tcp))?$")]
"""RFC 7064, RFC 7065: `stun:host:port`, `turns:host?transport=tcp`."""


class IceServer(Group):
    """A STUN or TURN server, for peers that cannot reach this machine directly."""

    urls: Annotated[tuple[IceUrl, ...], Field(min_length=1)]
    username: str | None = None
    credential: SecretStr | None = None
    # In place of both: what the TURN server makes temporary credentials of (coturn's
    # `static-auth-secret`), and how long they are good for.
    secret: SecretStr | None = None
    lifetime_s: int = Field(7_200, ge=60)

    @model_validator(mode="after")
    def _has_what_it_takes(self) -> IceServer:
        if self.secret is not None and (self.username or self.credential):
            raise ValueError("set either secret, or username and credential")
        if (self.username is None) != (self.credential is None):
            raise ValueError("username and credential belong together")
        relays = any(url.startswith("turn") for url in self.urls)
        if relays and self.secret is None and self.username is None:
            raise ValueError("a TURN server needs username and credential, or secret")
        return self


class EarlyWorkSettings(Group):
    """What is begun at a pause of `vad.early_pause_ms`, before the turn is surely over."""

    # `recognition`: what was heard is understood. `answers`: it is answered too; the answer is
    # held back until the turn is over.
    work: Literal["none", "recognition", "answers"] = "answers"
    # No answer is begun early while the engine is busy: while so many branches run over all
    # sessions (None: half of the answers that the engine writes at once), or so much speech
    # waits to be understood.
    max_running: int | None = Field(None, ge=1)
    max_backlog_s: float = Field(2.0, ge=0.0)


class InterruptionSettings(Group):
    """What speech over an answer does to it; times count speech, without pauses."""

    # So much in a row that may be speech: text waits until it is known, half a second at most.
    suspect_after_ms: Milliseconds = 96
    # Five frames of 32 ms: what is left of 200 ms is for scoring and a busy machine.
    withhold_after_ms: Milliseconds = 160
    # When nothing is known of the words; a backchannel is let go on until `words_until_ms`.
    cancel_after_ms: Milliseconds = 500
    words_until_ms: Milliseconds = 1_000
    # Against the echo of a voice that reads the answer: while an answer is being given, and
    # so long after its last text, a turn begins only with speech of this probability. 0 ms: off.
    echo_guard_ms: Milliseconds = 0
    echo_guard_threshold: float = Field(0.9, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> InterruptionSettings:
        if not self.withhold_after_ms <= self.cancel_after_ms <= self.words_until_ms:
            raise ValueError(
                "withhold_after_ms, cancel_after_ms and words_until_ms must not decrease"
            )
        return self


class SmallEngineSettings(Group):
    """The embedded engine. Threads: None leaves one core of this process to audio."""

    recognition_threads: int | None = Field(None, ge=1, le=64)
    language_threads: int | None = Field(None, ge=1, le=64)
    # Longest prompt plus answer of one conversation, and how many answers are decoded at a
    # time; memory for their product is reserved, 23 KB a token. A prompt is read at about
    # 150 tokens/s on one core, so a longer context would also be a longer wait.
    context_tokens: int = Field(2048, ge=256, le=8192)
    parallel_answers: int = Field(4, ge=1, le=32)
    # Prompts of conversations that wait, so that their next turn need not be read whole.
    prompt_cache_mib: int = Field(128, ge=0, le=65_536)
    # How far its process stands back, on the same cores, behind the one that hears and judges
    # pauses: it begins to recognise in the very moment in which a pause is judged.
    # At 10 two threads of it no longer delay a score; at 5 they do, by a fifth.
    nice: int = Field(10, ge=0, le=19)


class GemmaEngineSettings(Group):
    """The resident engine."""

    device: str = "auto"  # the first GPU if there is one, else the CPU
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    # Longest prompt plus answer of one conversation; its memory is reserved per place.
    context_tokens: int = Field(16_384, ge=1024, le=262_144)
    # Of the memory that is free once the weights are loaded. What is left is for the steps
    # themselves, and on the CPU for everybody else.
    memory_share: float = Field(0.8, gt=0.0, le=1.0)
    # Conversations and branches that are in memory at once; None for as many as fit.
    slots: int | None = Field(None, ge=1, le=4096)
    # Speech is heard in pieces of so much. None: 320 ms on a GPU; on the CPU it is measured
    # at the start what keeps up with live speech.
    piece_ms: int | None = Field(None, ge=40, le=640, multiple_of=40)
    # Host memory for speech that was encoded, so that a changed history need not be again:
    # 77 KB for a second of E2B.
    soft_cache_mib: int = Field(1024, ge=0, le=1_048_576)
    # Before a conversation outgrows its context its oldest turns are summarised, in the
    # background. Without, or where that is not done in time, they are left out.
    summaries: bool = True
    # Of torch on the CPU; None for as many as there are cores.
    threads: int | None = Field(None, ge=1, le=256)


class EngineProcessSettings(Group):
    """The engine's process: how it is watched and restarted."""

    heartbeat_interval_s: float = Field(2.0, gt=0.0)
    # Beats that may go unanswered in a row. Generous: native code may hold the interpreter
    # for seconds on a busy machine, and a hung engine is rarer than a slow one.
    heartbeats_missed: int = Field(10, ge=1)
    # How long an answer that is asked for during a restart waits for its end.
    ready_timeout_s: float = Field(30.0, ge=0.0)
    # After so many crashes within the window the server is not ready any more and tries on
    # every `retry_s` only.
    max_crashes: int = Field(5, ge=1)
    crash_window_s: float = Field(60.0, gt=0.0)
    retry_s: float = Field(30.0, gt=0.0)
    stop_grace_s: float = Field(0.5, ge=0.0)


class EngineName(StrEnum):
    """Which engine hears and answers."""

    AUTO = "auto"  # gemma when a checkpoint is given or on the machine, else small
    SMALL = "small"
    GEMMA = "gemma"


class Settings(BaseSettings):
    """All settings of the server."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    # The TOML file that the weakest of these settings come from.
    config: Path | None = None
    engine: EngineName = EngineName.AUTO
    model: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    api_key_file: Path | None = None
    api_key: SecretStr | None = None
    # PEM files of a certificate and its key: the server speaks https and wss then.
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    # Origins of pages that may connect beside the page served here, e.g. "https://kiosk.lan".
    allowed_origins: tuple[Origin, ...] = ()
    # STUN and TURN servers for WebRTC; none unless set: on one network none is needed.
    ice_servers: tuple[IceServer, ...] = ()
    # Host names this server is reached by beside the one it is bound to.
    allowed_hosts: tuple[HostName, ...] = ()
    instructions: str = (
        "You are a friendly voice assistant. Answer in one or two short, plain sentences."
    )
    # Of the speech, where the client names none: a BCP-47 code or an English name.
    language: LanguageCode | None = None
    temperature: float = Field(0.7, ge=0.0, le=2.0)
    max_output_tokens: int = Field(512, ge=1, le=32_768)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    vad: VadSettings = VadSettings()
    turns: TurnSettings = TurnSettings()
    early: EarlyWorkSettings = EarlyWorkSettings()
    interruption: InterruptionSettings = InterruptionSettings()
    limits: Limits = Limits()
    small: SmallEngineSettings = SmallEngineSettings()
    gemma: GemmaEngineSettings = GemmaEngineSettings()
    engine_process: EngineProcessSettings = EngineProcessSettings()

    @model_validator(mode="after")
    def _sessions_can_begin_with_them(self) -> Settings:
        """What sessions begin with must be within what the protocol lets clients set."""
        if not MIN_SILENCE_MS <= self.vad.silence_duration_ms <= MAX_SILENCE_MS:
            raise ValueError(
                f"vad.silence_duration_ms must be from {MIN_SILENCE_MS} to {MAX_SILENCE_MS}"
            )
        if self.vad.prefix_padding_ms > MAX_PREFIX_PADDING_MS:
            raise ValueError(f"vad.prefix_padding_ms must be at most {MAX_PREFIX_PADDING_MS}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line (init) over environment over the TOML file."""
        del dotenv_settings, file_secret_settings
        sources = (init_settings, env_settings)
        toml_file = init_settings().get("config") or env_settings().get("config")
        if not toml_file:
            return sources
        return (*sources, TomlConfigSettingsSource(settings_cls, _existing_file(toml_file)))

    def load_api_key(self) -> SecretStr | None:
        """The API key, from the setting or its file; None when there is none.

        Raises:
            ConfigError: The file cannot be read or is empty.
        """
        if self.api_key_file is None:
            return self.api_key
        try:
            key = self.api_key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"api_key_file: {error}") from error
        if not key:
            raise ConfigError(f"api_key_file: {self.api_key_file} is empty; put the key in it")
        return SecretStr(key)


def default_of(setting: str) -> str | None:
    """The default of a top-level setting as text; None when there is none to show."""
    field = Settings.model_fields.get(setting)
    if field is None or field.default in (None, ()) or isinstance(field.default, Group):
        return None
    return str(field.default)


def load_settings(**command_line: object) -> Settings:
    """Read and check all settings; options that are None count as not given.

    Raises:
        ConfigError: A setting is unknown or out of range; the message names it.
    """
    given = {name: value for name, value in command_line.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # validated by pydantic
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config: the file cannot be read as TOML: {error}") from error
    except SettingsError as error:  # an environment variable with a list or a group in it
        raise ConfigError(f'{error}; write it as JSON, a list as ["…"]') from error
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(problem) for problem in error.errors())) from error


_EXAMPLES = {"allowed_origins": "https://kiosk.lan:9000", "allowed_hosts": "kiosk.lan"}


def _sentence(problem: Any) -> str:
    """What is wrong with one setting, and what would be right."""
    name = ".".join(str(part) for part in problem["loc"]) or "settings"
    if problem["type"] == "extra_forbidden":
        meant = likely_place(Settings, "", str(problem["loc"][-1]))
        return f"{name}: there is no such setting{f'; did you mean {meant}?' if meant else ''}"
    if problem["type"] == "string_pattern_mismatch" and problem["loc"][0] in _EXAMPLES:
        return f"{name}: write it like {_EXAMPLES[problem['loc'][0]]} (got {problem['input']!r})"
    if problem["type"] == "tuple_type":
        return f'{name}: must be a list, such as ["…"]'
    return f"{name}: {problem['msg'].removeprefix('Value error, ')}"


def _existing_file(path: str | Path) -> Path:
    """The path; pydantic-settings would take a missing file for an empty one."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"config: there is no file {file}")
    return file
