"""The server as one call: settings in, serving until a signal."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import ssl
from typing import Any

import structlog
import uvloop

from agent.config import ScorerName, Settings, TurnScorerName, TurnSettings
from agent.engine.contract import Engine, ProgressCallback
from agent.engine.factory import select_engine
from agent.errors import ModelStoreError
from agent.gateway.asgi import create_app
from agent.gateway.auth import load_key
from agent.gateway.driver import SessionDriver
from agent.gateway.pauses import check_turn_scorer
from agent.gateway.progress import Say, progress_lines, say_on_stdout
from agent.gateway.server import bind, serve
from agent.gateway.services import Services
from agent.gateway.tls import load_tls
from agent.logs import configure_logging
from agent.metrics import Metrics
from agent.models.store import ModelStore
from agent.turns.hub import TurnHub
from agent.turns.scorers import SMART_TURN_FILE, SmartTurnScorer, TurnScorer, can_run
from agent.vad.hub import VadHub
from agent.vad.scorers import Scorer, make_scorer

__all__ = ["create_app", "run"]

log = structlog.get_logger()


def run(settings: Settings, say: Say = say_on_stdout) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: Of the server.
        say: Shows a line to people: progress, and the address of the page when ready.

    Raises:
        ConfigError: The address, the key, the certificate or another setting is wrong.
        EngineError: The engine cannot run here.
        ModelStoreError: A model is missing and cannot be fetched.
    """
    configure_logging(settings.log_level)
    key = load_key(settings)
    tls = load_tls(settings)
    engine = select_engine(settings)
    check_turn_scorer(settings, engine.info)
    with (
        bind(settings.host, settings.port) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, engine, listener, key=key, tls=tls, say=say))


async def _serve(
    settings: Settings,
    engine: Engine,
    listener: socket.socket,
    *,
    key: bytes | None,
    tls: ssl.SSLContext | None,
    say: Say,
) -> None:
    async with progress_lines("Loading the voice activity detector", say) as progress:
        scorer = await asyncio.to_thread(load_scorer, settings.vad.scorer, progress)
    async with progress_lines("Loading the turn detector", say) as progress:
        turn_scorer = await asyncio.to_thread(load_turn_scorer, settings.turns, progress)
    metrics = Metrics()
    hub = VadHub(scorer)
    turns = None
    if turn_scorer is not None:
        turns = TurnHub(turn_scorer, metrics, settings.turns.threads)
    try:
        services = Services(settings, engine, hub, metrics, turns)
        await serve(create_app(services, SessionDriver, key=key), listener, say, tls)
    finally:
        await hub.close()
        if turns is not None:
            turns.close()


def load_scorer(
    name: ScorerName, progress: ProgressCallback, store: ModelStore | None = None
) -> Scorer[Any]:
    """The scorer of that name, its model fetched if need be; AUTO does without if it cannot.

    Raises:
        ConfigError: It needs a package that is not installed.
        ModelStoreError: Its model cannot be fetched.
    """
    if name is ScorerName.WEBRTC:
        return make_scorer(name)
    auto = name is ScorerName.AUTO
    if auto and importlib.util.find_spec("onnxruntime") is None:
        return make_scorer(name)
    try:
        folder = (store or ModelStore()).ensure("silero-vad", progress)
    except ModelStoreError as error:
        if not auto:
            raise
        log.warning("doing without the better voice activity detector", reason=str(error))
        return make_scorer(ScorerName.WEBRTC)
    return make_scorer(name, silero_path=folder / "silero_vad.onnx")


def load_turn_scorer(
    settings: TurnSettings, progress: ProgressCallback, store: ModelStore | None = None
) -> TurnScorer | None:
    """The turn detector, its model fetched if need be; None where AUTO cannot have it.

    Raises:
        ConfigError: It needs a package that is not installed.
        ModelStoreError: Its model cannot be fetched.
    """
    if not can_run(settings.scorer):
        return None
    try:
        folder = (store or ModelStore()).ensure("smart-turn", progress)
    except ModelStoreError as error:
        if settings.scorer is not TurnScorerName.AUTO:
            raise
        log.warning("semantic_vad will use fixed waits", reason=str(error))
        return None
    return SmartTurnScorer(folder / SMART_TURN_FILE)
