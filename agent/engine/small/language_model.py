"""SmolLM2 through llama.cpp: chat messages in, text out.

Blocking and thread-safe: every answer is decoded by a call of its own, up to `parallel` at
a time, which llama.cpp batches. What it has read of a prompt stays resident, so that the
next turn of the same conversation only reads what is new.
"""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent.engine.small.prompt import Message
from agent.errors import ContextOverflow, EngineError

# Prompts are read in batches of so many tokens, and a cancelled answer ends with its batch:
# about 0.4 s on one core. Smaller ones cost speed (32: a quarter), larger ones gain none.
_BATCH_TOKENS = 64
# Turns whose tokens need not be counted again.
_COUNTS_KEPT = 4096
_ERRORS_ONLY = 1  # llama.cpp's verbosity
_LOCAL_TIMEOUT_S = 60.0
# A model this small goes round in circles. This makes it unlikely to go on with more than a
# dozen tokens that it has just said in the same order (llama.cpp's "DRY" sampler).
_AGAINST_LOOPS = {"dry_multiplier": 0.8, "dry_allowed_length": 12, "dry_penalty_last_n": 256}
# A short name ending in what llama.cpp takes as a socket: its whole path may have 107 bytes.
_SOCKET = "a.sock"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is decoded.

    Attributes:
        max_output_tokens: At most so many.
        temperature: 0 is greedy.
        seed: None for a fresh one.
    """

    max_output_tokens: int
    temperature: float
    seed: int | None


@dataclass(slots=True)
class Generated:
    """What an answer cost, so far or in the end.

    Attributes:
        prompt_tokens: Length of the prompt.
        cached_tokens: How many of them were resident.
        output_tokens: Tokens decoded.
        complete: Whether the model ended by itself.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    complete: bool = False


class LanguageModel:
    """A loaded model.

    Args:
        file: In GGUF format, with its chat template.
        threads: For everything.
        context_tokens: Longest prompt plus answer of one call.
        parallel: How many calls are decoded at a time.
        cache_mib: For prompts of conversations that wait.

    Raises:
        EngineError: A package is missing or the file cannot be loaded.
    """

    def __init__(
        self, file: Path, *, threads: int, context_tokens: int, parallel: int, cache_mib: int
    ) -> None:
        try:
            import xllamacpp  # noqa: PLC0415  # an optional extra
        except ImportError as error:
            raise EngineError(
                f"the embedded engine needs its extra ({error}): pip install 'voice-agent[small]'"
            ) from error
        self.context_tokens = context_tokens
        # llama.cpp always opens its HTTP API. As a socket in a folder that only this user
        # may enter, behind a key, it is out of reach for web pages and other users.
        self._folder = Path(tempfile.mkdtemp(prefix="llm-"))
        self._key = secrets.token_urlsafe()
        self._count = lru_cache(_COUNTS_KEPT)(self._count_tokens)
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.hostnames = [str(self._folder / _SOCKET)]
        params.api_keys = [self._key]
        params.ui = False
        params.endpoint_slots = False
        params.n_threads_http = 1
        params.verbosity = _ERRORS_ONLY
        params.n_gpu_layers = 0
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.n_ctx = context_tokens * parallel
        params.n_parallel = parallel
        params.kv_unified = True
        params.n_batch = params.n_ubatch = _BATCH_TOKENS
        params.cache_ram_mib = cache_mib
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, OSError) as error:
            shutil.rmtree(self._folder)
            raise EngineError(f"the language model cannot be loaded: {error}") from error

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that these messages make; about 2 ms, nothing the next time."""
        asked = tuple((message["role"], message["content"]) for message in messages)
        return self._count(asked)

    def _count_tokens(self, asked: tuple[tuple[str, str], ...]) -> int:
        messages = [{"role": role, "content": content} for role, content in asked]
        prompt = self._ask("/apply-template", {"messages": messages})["prompt"]
        return len(self._ask("/tokenize", {"content": prompt, "add_special": True})["tokens"])

    def generate(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        take: Callable[[str, Generated], bool],
    ) -> Generated:
        """Answer a conversation.

        Args:
            messages: The instructions, then the conversation.
            sampling: How to decode.
            take: Called in this thread with more text (whole characters; empty while the
                prompt is read) and the cost so far; True stops within a token or a batch.

        Raises:
            ContextOverflow: The prompt does not fit.
            EngineError: llama.cpp gave up.
        """
        cost = Generated()
        failures: list[Exception] = []

        def receive(chunk: dict[str, Any]) -> bool:
            if "error" in chunk:
                failures.append(_failure(chunk["error"]))
                return True
            try:
                return take(_note(chunk, cost), cost)
            except Exception as error:  # noqa: BLE001  # the binding would swallow it
                failures.append(error)
                return True

        self._server.handle_chat_completions(
            {
                "messages": list(messages),
                "max_tokens": sampling.max_output_tokens,
                "temperature": sampling.temperature,
                "seed": -1 if sampling.seed is None else sampling.seed,
                **_AGAINST_LOOPS,
                "stream": True,
                "stream_options": {"include_usage": True},
                "return_progress": True,
                "timings_per_token": True,
            },
            receive,
        )
        if failures:
            raise failures[0]
        return cost

    def close(self) -> None:
        """Free the model."""
        del self._server
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask llama.cpp's HTTP API."""
        connection = _UnixConnection(self._folder / _SOCKET)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineError(f"llama.cpp did not answer {path}: {error}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise _failure(answer.get("error", {}))
        return answer


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_LOCAL_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _note(chunk: dict[str, Any], cost: Generated) -> str:
    """Add a chunk of the stream to the cost; returns its text."""
    if progress := chunk.get("prompt_progress"):
        cost.prompt_tokens = progress["total"]
        cost.cached_tokens = progress["cache"]
    if timings := chunk.get("timings"):
        cost.output_tokens = timings["predicted_n"]
    if usage := chunk.get("usage"):
        cost.prompt_tokens = usage["prompt_tokens"]
        cost.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
        cost.output_tokens = usage["completion_tokens"]
    for choice in chunk["choices"]:
        if choice["finish_reason"] is not None:
            cost.complete = choice["finish_reason"] == "stop"
        return choice["delta"].get("content") or ""
    return ""


def _failure(error: dict[str, Any]) -> EngineError:
    message = str(error.get("message", "unknown error"))
    if error.get("type") == "exceed_context_size_error":
        return ContextOverflow(message)
    return EngineError(f"llama.cpp: {message}")
