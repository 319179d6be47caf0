"""openai-python's translation client, unmodified, against the real embedded server."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI
from openai.lib.realtime_translation import AsyncTranslationSession

from tests.helpers.server import RunningServer
from tests.helpers.speech import recordings
from tests.helpers.translating import in_a_row, say, translate

pytestmark = [pytest.mark.models, pytest.mark.slow]


async def test_english_is_passed_on_and_other_languages_are_translated(
    small_server: RunningServer,
) -> None:
    english = next(clip for clip in recordings() if clip.path.stem == "jfk")
    (german,) = recordings("de")[:1]
    (french,) = recordings("fr")[:1]
    speech = in_a_row(clip.samples() for clip in (english, german, french))
    got = await translate(small_server.base_url, speech, language="English")
    assert got.types[:2] == ["session.created", "session.updated"]
    assert got.types[-1] == "session.closed"
    assert set(got.types[2:-1]) == {
        "session.input_transcript.delta",
        "session.output_transcript.delta",
    }
    elapsed = [event.elapsed_ms for event in got.events[2:-1]]
    assert elapsed == sorted(elapsed)
    said, meant = got.source.lower(), got.text.lower()
    words = ["country", "portal", "becomes"]
    assert [word in meant for word in words] == [True, True, True], got.text
    assert sorted(words, key=meant.index) == words
    assert "my fellow americans" in said
    assert "my fellow americans" in meant
    assert "portal" in said
    assert "le consulat" in said
    assert "le consulat" not in meant


async def test_a_language_it_cannot_write_is_refused_in_words(small_server: RunningServer) -> None:
    client = AsyncOpenAI(api_key="any", websocket_base_url=small_server.base_url)
    async with client.realtime.translations.connect(model="any") as connection:
        assert (await connection.recv()).type == "session.created"
        await connection.session.update(session={"audio": {"output": {"language": "es"}}})
        refused = await connection.recv()
        assert refused.type == "error"
        assert refused.error.param == "session.audio.output.language"
        assert "English" in refused.error.message
        assert "Gemma 4" in refused.error.message
        await connection.session.close()
        assert (await connection.recv()).type == "session.closed"


async def test_the_sdks_session_helper_sees_the_end(small_server: RunningServer) -> None:
    """`openai.lib`'s helper insists on a complete `session.closed`, and then hangs up itself."""
    client = AsyncOpenAI(api_key="any", websocket_base_url=small_server.base_url)
    english = next(clip for clip in recordings() if clip.path.stem == "jfk")
    async with AsyncTranslationSession(client.realtime.translations, model="any") as session:
        await say(session, english.samples())
        types = []
        while not types or types[-1] != "session.closed":
            types.append((await session.recv()).type)
    assert types[0] == "session.created"
    assert set(types[1:-1]) == {"session.output_transcript.delta"}
