"""The command line: `voice-agent serve | talk | say | models | doctor`.

Only options are here; what a command does, and everything slow to import, is imported
inside it, so that `--help` is quick. Errors of this package end with one line on standard
error: exit status 2 when something given or set up is wrong, 1 when the work failed, 130
after Ctrl-C.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from agent.errors import ConfigError, InvalidEvent, NotAuthorized, VoiceAgentError

EXIT_FAILED = 1
EXIT_WRONG = 2
EXIT_INTERRUPTED = 130


class Commands(TyperGroup):
    """All commands; the one place where errors become exit statuses."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except VoiceAgentError as error:
            typer.secho(f"voice-agent: {error}", fg=typer.colors.RED, err=True)
            wrong = isinstance(error, ConfigError | InvalidEvent | NotAuthorized)
            raise typer.Exit(EXIT_WRONG if wrong else EXIT_FAILED) from error
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


class SettingsCommand(TyperCommand):
    """A command whose options are settings: `--help` shows the defaults of `agent.config`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Fill in the defaults, which are slow to import, and print."""
        from agent.config import default_of  # noqa: PLC0415

        for option in self.params:
            shown = default_of(option.name or "")
            if shown is not None:
                option.default = shown
        super().format_help(ctx, formatter)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(
    no_args_is_help=True, help="Model files: which are here, fetch them, check them."
)
app.add_typer(models_app, name="models")


def _examples(*lines: str) -> str:
    # Each a paragraph: typer joins the lines of one.
    return "\n\n".join(["Examples:", *(f"- `{line}`" for line in lines)])


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"voice-agent {version('voice-agent')}")
        raise typer.Exit


@app.callback()
def voice_agent(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Live speech in, answers out as text: a voice agent that runs on your own machine."""


Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file with settings."),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="VOICE_AGENT_URL",
        help="Address of the server; by default the one that `serve` would start here.",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--api-key-file", metavar="FILE", help="File with the server's API key."),
]
Instructions = Annotated[
    str | None,
    typer.Option("--instructions", metavar="TEXT", help="How to answer: the system prompt."),
]
Language = Annotated[
    str | None,
    typer.Option(
        "--language", metavar="LANGUAGE", help="Language of the speech: en, German; else detected."
    ),
]


@app.command(
    cls=SettingsCommand,
    epilog=_examples(
        "voice-agent serve",
        "voice-agent serve --model google/gemma-4-E4B-it",
        "voice-agent serve --host 0.0.0.0 --api-key-file key.txt --allowed-host kiosk.lan",
    ),
)
def serve(  # noqa: PLR0917  # options, one each
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="auto, small or gemma; auto is gemma where a checkpoint is at hand.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT", help="Checkpoint of Gemma 4: a folder, or a name on the hub."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; beyond this machine only with an API key.",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port to listen on; 0 for a free one.")
    ] = None,
    api_key_file: KeyFile = None,
    tls_cert_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate (PEM) to serve https and wss with."),
    ] = None,
    tls_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate's key (PEM).")
    ] = None,
    instructions: Instructions = None,
    language: Language = None,
    temperature: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Randomness of the answers; 0 for none."),
    ] = None,
    max_output_tokens: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Longest answer, in tokens.")
    ] = None,
    vad: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What finds speech: auto, cascade, silero or webrtc."),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="Origin of a page elsewhere that may connect; may be repeated."
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="Another name this server is reached by; may be repeated."
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL", help="debug, info, warning or error; logs go to standard error."
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Start the server: a page to speak to, and the Realtime API.

    Every option is also a setting: `--max-output-tokens 100` is `max_output_tokens = 100` in
    the TOML file and VOICE_AGENT_MAX_OUTPUT_TOKENS=100 in the environment. The command line
    wins over the environment, and that over the file.
    """
    from agent.config import load_settings  # noqa: PLC0415
    from agent.gateway.app import run  # noqa: PLC0415

    run(
        load_settings(
            config=config,
            engine=engine,
            model=model,
            host=host,
            port=port,
            api_key_file=api_key_file,
            tls_cert_file=tls_cert_file,
            tls_key_file=tls_key_file,
            instructions=instructions,
            language=language,
            temperature=temperature,
            max_output_tokens=max_output_tokens,
            vad={"scorer": vad} if vad is not None else None,
            allowed_origins=tuple(allowed_origin) if allowed_origin else None,
            allowed_hosts=tuple(allowed_host) if allowed_host else None,
            log_level=log_level,
        )
    )


@app.command(epilog=_examples("voice-agent talk", "voice-agent talk --device 'USB' --language de"))
def talk(  # noqa: PLR0917  # options, one each
    url: Url = None,
    api_key_file: KeyFile = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Microphone: its number or part of its name.")
    ] = None,
    instructions: Instructions = None,
    language: Language = None,
    captions: Annotated[
        bool, typer.Option("--captions", help="Show words while they are spoken.")
    ] = False,
) -> None:
    """Talk to a server by microphone; what was heard and the answers appear as text."""
    from agent.commands import talk as command  # noqa: PLC0415
    from agent.commands.server_address import find_server  # noqa: PLC0415

    command.run(
        find_server(url, api_key_file),
        command.TalkOptions(
            device=device, instructions=instructions, language=language, captions=captions
        ),
    )


@app.command(
    epilog=_examples(
        "voice-agent say question.wav",
        "voice-agent say --json --no-answer recordings/*.wav > heard.jsonl",
        "voice-agent say --fast --new-session a.wav b.flac",
    )
)
def say(  # noqa: PLR0917  # options, one each
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Recordings: WAV, or what the package av can read."),
    ],
    url: Url = None,
    api_key_file: KeyFile = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Do not play in real time; gives no latencies.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each turn.")
    ] = False,
    no_answer: Annotated[
        bool, typer.Option("--no-answer", help="Only show what is heard; ask for no answers.")
    ] = False,
    new_session: Annotated[
        bool,
        typer.Option("--new-session", help="Each recording is a conversation of its own."),
    ] = False,
    instructions: Instructions = None,
    language: Language = None,
    gap_s: Annotated[
        float,
        typer.Option(min=0.0, metavar="SECONDS", help="Least silence after each recording."),
    ] = 1.0,
    timeout_s: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Give up after so long without a sign of the server."
        ),
    ] = 60.0,
) -> None:
    """Play recordings into a server as if they were spoken, and show what comes back."""
    from agent.commands import say as command  # noqa: PLC0415
    from agent.commands.server_address import find_server  # noqa: PLC0415

    options = command.SayOptions(
        realtime=not fast,
        as_json=as_json,
        answers=not no_answer,
        new_session=new_session,
        instructions=instructions,
        language=language,
        gap_s=gap_s,
        timeout_s=timeout_s,
    )
    raise typer.Exit(command.run(files, find_server(url, api_key_file), options))


@app.command(epilog=_examples("voice-agent doctor", "voice-agent doctor --json"))
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: Config = None,
) -> None:
    """Show what is installed, which engine would run, what is missing and how to get it.

    Exit status 0 when `voice-agent serve` would work as things are.
    """
    from agent import doctor as command  # noqa: PLC0415
    from agent.config import load_settings  # noqa: PLC0415

    raise typer.Exit(command.run(load_settings(config=config), as_json=as_json))


Name = Annotated[str, typer.Argument(metavar="NAME", help="As `voice-agent models list` shows.")]


@models_app.command("list")
def models_list() -> None:
    """Show all models, and whether they are here."""
    from agent.commands import models as command  # noqa: PLC0415

    command.show_list()


@models_app.command("pull", epilog=_examples("voice-agent models pull whisper-base"))
def models_pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Models to fetch.")],
) -> None:
    """Fetch models; goes on where an earlier try stopped. Prints their folders."""
    from agent.commands import models as command  # noqa: PLC0415

    command.pull(names)


@models_app.command("path")
def models_path(name: Name) -> None:
    """Print the folder of a model."""
    from agent.commands import models as command  # noqa: PLC0415

    command.show_path(name)


@models_app.command("verify")
def models_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="All that are here when none.")
    ] = None,
) -> None:
    """Read the files of models again and compare them with their checksums."""
    from agent.commands import models as command  # noqa: PLC0415

    raise typer.Exit(command.verify(names or ()))


def main() -> None:
    """Entry point of `voice-agent`."""
    app()


if __name__ == "__main__":
    main()
