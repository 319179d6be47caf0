"""The web page and its modules, with the headers that keep them safe and fresh."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import agent

HEADERS = {
    # Nothing but this server's own files runs, and it talks to nobody else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; media-src 'self' blob:; worker-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Modules load each other by name. After an update none of them may come from a cache;
    # validators are no help, since installers set the times that they are made of.
    "Cache-Control": "no-store",
}


def web_client_folder() -> Path:
    """Where the page is: inside an installed package, or beside it in a checkout."""
    package = Path(agent.__file__).parent
    installed = package / "_web_client"
    return installed if installed.is_dir() else package.parent / "web_client"


class Pages(StaticFiles):
    """Static files with `HEADERS`; a folder that is not there holds no files."""

    def __init__(self, folder: Path) -> None:
        """Serve `folder`, `index.html` at its root."""
        super().__init__(directory=folder, html=True, check_dir=False)
        self.config_checked = True  # a missing folder is a 404 each, not a failure

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file at `path`, always whole: its validators are not to be trusted."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response

    def is_not_modified(self, response_headers: object, request_headers: object) -> bool:
        """Never: see `Cache-Control` above."""
        del response_headers, request_headers
        return False
