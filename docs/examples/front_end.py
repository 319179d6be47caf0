"""A front end of one's own: serves its pages, and gives each visitor a client secret.

It runs beside the voice agent, on another port or another machine, and is the only one that
holds the server's key. The server must know the origin of its pages:

    voice-agent serve --api-key-file key.txt --allowed-origin http://localhost:9000
    python front_end.py --port 9000 --folder . --api-key-file key.txt

Standard library only; in production this is a route of the web server you have.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# What the visitors' sessions begin with. They cannot make secrets of their own from it.
SESSION = {"type": "realtime", "instructions": "You are a museum guide. Answer in one sentence."}


def create_secret(server: str, key: str) -> str:
    """A key that is good for sessions alone, and for a minute."""
    body = {"expires_after": {"anchor": "created_at", "seconds": 60}, "session": SESSION}
    request = urllib.request.Request(
        f"{server}/v1/realtime/client_secrets",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        secret: str = json.load(answer)["value"]
    return secret


class Handler(SimpleHTTPRequestHandler):
    """Files, and `POST /session`."""

    def __init__(self, *args: object, server_url: str, key: str, folder: str) -> None:
        self.server_url, self.key = server_url, key
        super().__init__(*args, directory=folder)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        """Ask for a secret. Check here who the visitor is, and how many they had."""
        if self.path != "/session":
            self.send_error(404)
            return
        secret = create_secret(self.server_url, self.key)
        body = json.dumps({"server": self.server_url, "secret": secret}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until Ctrl-C."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--server", default="http://127.0.0.1:8080", help="the voice agent")
    options.add_argument("--api-key-file", type=Path, required=True)
    options.add_argument("--folder", default=".", help="of the pages")
    options.add_argument("--port", type=int, default=9000)
    given = options.parse_args()
    key = given.api_key_file.read_text().strip()
    handler = partial(Handler, server_url=given.server, key=key, folder=given.folder)
    with ThreadingHTTPServer(("127.0.0.1", given.port), handler) as server:  # type: ignore[arg-type]
        print(f"Open http://localhost:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
