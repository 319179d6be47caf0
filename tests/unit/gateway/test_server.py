"""The address that the server listens at."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.gateway.server import bind


def test_an_address_that_is_taken_says_what_to_do() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port}: .*port 0 finds a free one"):
            bind("127.0.0.1", port)


def test_an_address_that_is_not_ours_gets_no_such_advice() -> None:
    # RFC 5737: an address for documents, which no machine has.
    with pytest.raises(ConfigError, match=r"host, port: cannot listen at 192\.0\.2\.1") as refused:
        bind("192.0.2.1", 8080)
    assert "free one" not in str(refused.value)
