"""What a client asks for in its URL."""

import pytest

from agent.gateway.services import SessionQuery


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, SessionQuery()),
        ({"model": "", "intent": ""}, SessionQuery()),
        ({"model": "gpt-realtime"}, SessionQuery(model="gpt-realtime")),
        ({"intent": "transcription"}, SessionQuery(intent="transcription")),
        ({"extensions": "timings"}, SessionQuery(extensions=frozenset({"timings"}))),
        ({"extensions": " timings , unknown,"}, SessionQuery(extensions=frozenset({"timings"}))),
    ],
)
def test_query(query, expected):
    assert SessionQuery.parse(query) == expected
