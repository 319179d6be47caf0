"""The Hugging Face hub by plain HTTPS: a GET for each file, going on where the last one ended.

The endpoint and its paths are the public ones (`<endpoint>/<repo>/resolve/<revision>/<file>`);
`HF_ENDPOINT` names a mirror and `HF_HUB_OFFLINE=1` keeps us off the network, as they do for
Hugging Face's own libraries. Proxies and certificates are those of the environment.
"""

from __future__ import annotations

import http.client
import os
import queue
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit

from agent.models.catalogue import HubRepository, Model, ModelFile
from agent.models.progress import Meter
from agent.models.sources import SourceFailed
from agent.models.staging import CHUNK_BYTES, Staging, WrongBytes

DEFAULT_ENDPOINT = "https://huggingface.co"
ANSWER_LIMIT_S = 5.0
"""A hub that has not begun to answer by then is taken for unreachable. It bounds name
resolution too, which on a machine without network can hang for half a minute."""
STALL_LIMIT_S = 20.0
"""A download that gives nothing for so long has stopped."""
TRIES = 3
"""How often a download that broke off is taken up again within one pull."""

_TRUE_WORDS = frozenset({"1", "true", "yes", "on"})


class _BrokeOff(Exception):
    """The connection ended early; what came is kept."""


class _RangeRefused(Exception):
    """The hub's file ends before our partial one does."""


class HubSource:
    """Fetches files from the hub or a mirror of it."""

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        offline: bool = False,
        answer_limit_s: float = ANSWER_LIMIT_S,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._offline = offline
        self._answer_limit_s = answer_limit_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> HubSource:
        """As `HF_ENDPOINT` and `HF_HUB_OFFLINE` say."""
        return cls(
            environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT,
            offline=environment.get("HF_HUB_OFFLINE", "").strip().lower() in _TRUE_WORDS,
        )

    def fetch(
        self, model: Model, files: Sequence[ModelFile], staging: Staging, meter: Meter
    ) -> None:
        """Fetch the files; see `Source.fetch`."""
        if model.hub is None:
            raise SourceFailed(f"{model.name} is not fetched from the hub")
        if self._offline:
            raise SourceFailed("the hub was not asked because HF_HUB_OFFLINE is set")
        if urlsplit(self._endpoint).scheme not in {"http", "https"}:
            raise SourceFailed(
                f"HF_ENDPOINT is {self._endpoint!r}; it must begin with https:// or http://"
            )
        for file in files:
            if not staging.has(file.pin):
                self._fetch_file(model.hub, file, staging, meter)
                meter.finish(file.pin.size_bytes)

    def _fetch_file(
        self, hub: HubRepository, file: ModelFile, staging: Staging, meter: Meter
    ) -> None:
        url = f"{self._endpoint}/{hub.name}/resolve/{hub.revision}/{quote(file.name)}"
        host = urlsplit(url).netloc
        for attempt in range(1, TRIES + 1):
            try:
                self._go_on(url, file, staging.partial(file.pin), meter)
                break
            except _BrokeOff as error:
                if attempt == TRIES:
                    raise SourceFailed(f"{host} broke off {file.name}: {error}") from error
        try:
            staging.accept(file.pin)
        except WrongBytes as error:
            raise SourceFailed(f"{file.name} from {host} {error}") from error

    def _go_on(self, url: str, file: ModelFile, partial: Path, meter: Meter) -> None:
        """Fetch what is missing of the partial file."""
        have_bytes = partial.stat().st_size if partial.exists() else 0
        if have_bytes > file.pin.size_bytes:
            have_bytes = 0
        if have_bytes == file.pin.size_bytes:
            return
        doing = f"{file.name} from {urlsplit(url).netloc}"
        meter.show(doing, have_bytes)
        try:
            response = self._open(url, have_bytes)
        except _RangeRefused as error:
            partial.unlink()
            raise _BrokeOff("it has no more bytes; starting over") from error
        with response, partial.open("r+b" if partial.exists() else "wb") as target:
            have_bytes = _start_of_body(response, have_bytes)
            target.seek(have_bytes)
            target.truncate()
            while have_bytes < file.pin.size_bytes:
                try:
                    # read1 gives what has come: a slow download shows and keeps all of it.
                    chunk = response.read1(min(CHUNK_BYTES, file.pin.size_bytes - have_bytes))
                except (OSError, http.client.HTTPException) as error:
                    raise _BrokeOff(str(error)) from error
                if not chunk:
                    raise _BrokeOff(f"{have_bytes:,} of {file.pin.size_bytes:,} bytes came")
                target.write(chunk)
                have_bytes += len(chunk)
                meter.show(doing, have_bytes)

    def _open(self, url: str, from_bytes: int) -> http.client.HTTPResponse:
        """Send the request; the answer must begin within the limit.

        It runs in a thread of its own because name resolution has no time limit. The
        thread is a daemon: one that hangs must not keep the program from ending.
        """
        headers = {"User-Agent": "voice-agent", "Accept-Encoding": "identity"}
        if from_bytes:
            headers["Range"] = f"bytes={from_bytes}-"
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # scheme checked
        answers: queue.Queue[http.client.HTTPResponse | Exception] = queue.Queue()
        given_up = threading.Event()

        def ask() -> None:
            try:
                answer = urllib.request.urlopen(request, timeout=STALL_LIMIT_S)  # noqa: S310
            except (OSError, http.client.HTTPException, ValueError) as error:
                answers.put(error)
            else:
                answers.put(answer)
                if given_up.is_set():
                    answer.close()

        threading.Thread(target=ask, name="hub-request", daemon=True).start()
        host = urlsplit(url).netloc
        try:
            answer = answers.get(timeout=self._answer_limit_s)
        except queue.Empty:
            given_up.set()
            raise SourceFailed(f"{host} did not answer within {self._answer_limit_s:g} s") from None
        if isinstance(answer, urllib.error.HTTPError):
            answer.close()
            if answer.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _RangeRefused
            raise SourceFailed(f"{host} answered {answer.code} {answer.reason} to {url}")
        if isinstance(answer, urllib.error.URLError):
            raise SourceFailed(f"{host} cannot be reached: {answer.reason}")
        if isinstance(answer, Exception):
            raise SourceFailed(f"{host} cannot be reached: {answer}")
        return answer


def _start_of_body(response: http.client.HTTPResponse, asked_bytes: int) -> int:
    """The place in the file where the answer's body begins."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else asked_bytes
