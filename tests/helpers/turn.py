"""A real TURN server (coturn), on this machine's own address."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.network import own_address

START_S = 10.0
_SECRET = "the TURN server's own"


@dataclass(frozen=True, slots=True)
class TurnServer:
    """One that runs.

    Attributes:
        address: Host and port, for UDP and TCP.
    """

    address: str

    def setting(self, transport: str = "udp") -> dict[str, object]:
        """It, as one of the setting `ice_servers`."""
        return {"urls": [f"turn:{self.address}?transport={transport}"], "secret": _SECRET}

    @property
    def environment(self) -> dict[str, str]:
        """What a server is told of it by."""
        return {"VOICE_AGENT_ICE_SERVERS": json.dumps([self.setting()])}


@contextmanager
def turn_server() -> Iterator[TurnServer]:
    """Run coturn until the block ends; skips the test where it is not installed."""
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("no TURN server: coturn is not installed (Debian: apt-get install coturn)")
    address = own_address()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program, "-n", "--no-cli", "--no-tls", "--no-dtls", "--fingerprint",
            "--use-auth-secret", f"--static-auth-secret={_SECRET}", "--realm=example.org",
            f"--listening-ip={address}", f"--listening-port={port}", f"--relay-ip={address}",
            f"--userdb={folder}/users", f"--pidfile={folder}/pid", "--log-file=stdout",
        ]  # fmt: skip
        with (Path(folder) / "log").open("w+b") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
            try:
                _wait_until_it_answers(address, port, process)
                yield TurnServer(f"{address}:{port}")
            finally:
                process.terminate()
                process.wait(10)


def _wait_until_it_answers(address: str, port: int, process: subprocess.Popen[bytes]) -> None:
    binding_request = bytes.fromhex("000100002112a442") + bytes(12)  # RFC 8489, section 5
    until_s = time.monotonic() + START_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect((address, port))
        while time.monotonic() < until_s and process.poll() is None:
            try:
                client.send(binding_request)
                if client.recv(2048):
                    return
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.05)
    raise AssertionError("the TURN server did not begin to answer")
