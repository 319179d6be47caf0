"""A Hugging Face hub of one repository: what its own libraries ask for, from a local folder.

Source: the requests of huggingface_hub 2.4 (`HfApi.repo_info`, `list_repo_tree`,
`hf_hub_download`).
"""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """A hub that listens.

    Attributes:
        name: Of its repository.
        folder: Its files.
        endpoint: Its address.
        sent: Names of the files that were sent, one for each request.
        breaks_at_byte: It ends the connection at this byte of a file, each time.
    """

    name: str
    folder: Path
    endpoint: str = ""
    sent: list[str] = field(default_factory=list)
    breaks_at_byte: int | None = None

    def answer(self, path: str) -> tuple[HTTPStatus, dict[str, str], bytes]:
        """Status, headers and body of an answer to GET; HEAD is the same without the body."""
        if path == f"/api/models/{self.name}/revision/main":
            return _json({"id": self.name, "sha": COMMIT, "siblings": []})
        if path == f"/api/models/{self.name}/tree/{COMMIT}":
            return _json([self._entry(file) for file in self._files()])
        for revision in ("main", COMMIT):
            prefix = f"/{self.name}/resolve/{revision}/"
            file = self.folder / path.removeprefix(prefix)
            if path.startswith(prefix) and file.is_file():
                headers = {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": COMMIT}
                return HTTPStatus.OK, headers, file.read_bytes()
        code = "EntryNotFound" if path.startswith(f"/{self.name}/resolve/") else "RepoNotFound"
        return HTTPStatus.NOT_FOUND, {"X-Error-Code": code, "X-Repo-Commit": COMMIT}, b""

    def _files(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())

    def _entry(self, file: Path) -> dict[str, object]:
        name = file.relative_to(self.folder).as_posix()
        return {"type": "file", "path": name, "size": file.stat().st_size, "oid": _digest(file)}


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()  # as git names blobs


def _json(value: object) -> tuple[HTTPStatus, dict[str, str], bytes]:
    return HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _handler_of(hub: HubServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            status, headers, body = hub.answer(path)
            start = 0
            if status is HTTPStatus.OK and (asked := self.headers["Range"]):
                start = int(asked.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                status = HTTPStatus.PARTIAL_CONTENT
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if with_body:
                if "/resolve/" in path and status is not HTTPStatus.NOT_FOUND:
                    hub.sent.append(path.rsplit("/", 1)[1])
                self.wfile.write(body[start : hub.breaks_at_byte])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # base class
            """Keep test output clean."""

    return Handler


@contextmanager
def hub_server(name: str, folder: Path) -> Iterator[HubServer]:
    """A hub with a folder's files as a repository of that name."""
    hub = HubServer(name, folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(hub)) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
