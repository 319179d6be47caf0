"""Calls over WebRTC: a real peer, the real server."""

from __future__ import annotations

import asyncio
import json
import sys

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.helpers.patience import PATIENCE_S
from tests.helpers.peer import OpusMicrophone, Peer, peer
from tests.helpers.server import RunningServer
from tests.helpers.speech import ROOT, recording, recordings
from tests.helpers.wer import word_errors

pytestmark = [pytest.mark.models, pytest.mark.slow]

SETTINGS = {
    "type": "realtime",
    "output_modalities": ["text"],
    "audio": {
        "input": {
            "transcription": {"model": "any"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 1000},
        }
    },
}


async def test_a_spoken_turn_is_heard_and_answered(small_server: RunningServer):
    clip = recording(at_least_s=2.5, at_most_s=4)
    async with peer(small_server.url, SETTINGS) as client:
        created = client.events[0]["session"]
        assert created["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 1000
        client.microphone.say(clip.samples())
        done = await client.event("response.done")
        transcript = await client.event("conversation.item.input_audio_transcription.completed")
        assert word_errors(clip.text, transcript["transcript"]).rate <= 0.35
        assert done["response"]["output"][0]["content"][0]["text"].strip()


def ends(server: RunningServer, client: Peer) -> list[str]:
    """How a call has ended, by the server's log; empty while it goes on."""
    closed = [one for one in server.logs if one["event"] == "session closed"]
    session_id = client.events[0]["session"]["id"]
    return [one["outcome"] for one in closed if one["session_id"] == session_id]


async def end_of(server: RunningServer, client: Peer) -> list[str]:
    """Wait for the end of a call, and say how it has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while not ends(server, client):  # noqa: ASYNC110  # another thread reads the log
            await asyncio.sleep(0.05)
    return ends(server, client)


async def test_hanging_up_ends_the_call(small_server: RunningServer):
    async with peer(small_server.url) as client:
        async with httpx2.AsyncClient() as http:
            answer = await http.post(f"{small_server.url}{client.location}/hangup")
            assert answer.status_code == 200
            again = f"{small_server.url}/v1/realtime/calls/rtc_none/hangup"
            assert (await http.post(again)).status_code == 404
        await client.closed()
        assert await end_of(small_server, client) == ["client"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        ("", "application/sdp", 400, "invalid_offer"),
        ("v=0\r\nnonsense", "application/sdp", 400, "invalid_offer"),
        ("\0\xff{}", "application/sdp", 400, "invalid_offer"),
        ("{}", "application/json", 400, "invalid_content_type"),
        ("x" * 300_000, "application/sdp", 413, "message_too_large"),
    ],
)
async def test_a_bad_offer_is_told_why(small_server, content, kind, status, code):
    async with httpx2.AsyncClient() as http:
        answer = await http.post(
            f"{small_server.url}/v1/realtime/calls",
            content=content,
            headers={"Content-Type": kind},
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_audio_in_events_is_refused_and_the_call_goes_on(small_server: RunningServer):
    async with peer(small_server.url) as client:
        client.send({"type": "input_audio_buffer.append", "audio": "AAAA", "event_id": "mine"})
        error = (await client.event("error"))["error"]
        assert (error["code"], error["event_id"]) == ("audio_in_media_track", "mine")
        client.send({"type": "session.update", "session": {"type": "realtime"}})
        await client.event("session.updated")


async def test_a_bad_network_breaks_no_turn(small_server: RunningServer):
    clip = recording(at_least_s=4, at_most_s=8)
    async with peer(small_server.url, SETTINGS) as client:
        client.impair(loss=0.05, jitter_s=0.05, seed=3)
        client.microphone.say(clip.samples())
        await client.event("response.done")
        turns = [one for one in client.events if one["type"] == "input_audio_buffer.committed"]
        transcript = await client.event("conversation.item.input_audio_transcription.completed")
        assert len(turns) == 1
        assert word_errors(clip.text, transcript["transcript"]).rate <= 0.35


HEARD = "conversation.item.input_audio_transcription.completed"


async def test_a_microphone_can_be_taken_away_and_another_one_used(small_server: RunningServer):
    clip = recording(at_least_s=4, at_most_s=8)
    transcription = SETTINGS | {"type": "transcription"}
    del transcription["output_modalities"]
    async with peer(small_server.url, transcription) as client:
        client.microphone.say(clip.samples())
        await client.event("input_audio_buffer.speech_started")
        client.use_microphone(None)  # in the middle of a sentence
        await client.event("input_audio_buffer.committed")
        await client.event(HEARD)
        after = len(client.events)
        client.use_microphone(OpusMicrophone())  # its timestamps begin anew
        client.microphone.say(clip.samples())
        done = await client.event(HEARD, after=after)
        assert word_errors(clip.text, done["transcript"]).rate <= 0.35


async def test_a_device_changed_in_a_sentence_breaks_no_turn(small_server: RunningServer):
    clip = recording(at_least_s=4, at_most_s=8)
    middle = clip.samples().size // 2
    first, second = OpusMicrophone(), OpusMicrophone()
    first.say(clip.samples()[:middle])
    second.say(clip.samples()[middle:])
    settings = {
        "type": "transcription",
        "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 2000}}},
    }
    async with peer(small_server.url, settings, microphone=first) as client:
        while not first.is_silent:  # noqa: ASYNC110  # it is only a number
            await asyncio.sleep(0.005)
        client.use_microphone(second)
        done = await client.event(HEARD)
        assert word_errors(clip.text, done["transcript"]).rate <= 0.35
        kinds = [event["type"] for event in client.events]
        assert kinds.count("input_audio_buffer.committed") == 1


async def test_silence_that_is_not_sent_is_silence(small_server: RunningServer):
    clips = [clip for clip in recordings() if 2.5 <= clip.samples().size / 16_000 <= 4][:2]
    settings = {
        "type": "transcription",
        "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 2000}}},
    }
    microphone = OpusMicrophone(pauses=True)
    async with peer(small_server.url, settings, microphone=microphone) as client:
        for clip in clips:
            microphone.say(clip.samples())
            while not microphone.is_silent:  # noqa: ASYNC110  # it is only a number
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.6)  # with the silence in the recordings less than ends a turn
        done = await client.event(HEARD)
        said = " ".join(clip.text for clip in clips)
        assert word_errors(said, done["transcript"]).rate <= 0.35
        stopped = await client.event("input_audio_buffer.speech_stopped")
        played_ms = sum(clip.samples().size for clip in clips) / 16 + 600
        assert stopped["audio_end_ms"] > 0.8 * played_ms


async def test_the_sender_is_told_what_was_lost_and_it_is_counted(small_server: RunningServer):
    def counted(outcome: str) -> float:
        name = f'voice_agent_audio_packets_total{{outcome="{outcome}"}}'
        lines = small_server.get("/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = {one: counted(one) for one in ("received", "lost", "failed")}
    microphone = OpusMicrophone()
    microphone.say_packets([b"\xff"] * 20)  # damaged
    async with peer(small_server.url, microphone=microphone) as client:
        client.impair(loss=0.3, jitter_s=0.0, seed=1)
        async with asyncio.timeout(PATIENCE_S):
            while not (report := await client.report()) or not report.fractionLost:  # noqa: ASYNC110  # it comes once a second
                await asyncio.sleep(0.1)
        assert 0 < report.packetsLost < 500
        async with asyncio.timeout(PATIENCE_S):
            while counted("lost") - before["lost"] < report.packetsLost:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    lost, failed, received = (counted(one) - before[one] for one in ("lost", "failed", "received"))
    assert 0 < lost < received
    assert 0 < failed <= 40  # each, and the gap before it


async def test_a_peer_that_vanishes_is_noticed_and_one_that_is_muted_stays(
    small_server: RunningServer,
):
    async with peer(small_server.url) as muted, peer(small_server.url) as vanishing:
        muted.use_microphone(None)
        vanishing.vanish()
        assert await end_of(small_server, vanishing) == ["lost"]
        muted.send({"type": "session.update", "session": {"type": "realtime"}})
        await muted.event("session.updated")
        assert ends(small_server, muted) == []


async def test_a_transcription_session_over_webrtc(small_server: RunningServer):
    clip = recording(at_least_s=2.5, at_most_s=4)
    async with peer(small_server.url, {"type": "transcription"}) as client:
        assert client.events[0]["session"]["type"] == "transcription"
        client.microphone.say(clip.samples())
        done = await client.event("conversation.item.input_audio_transcription.completed")
        assert word_errors(clip.text, done["transcript"]).rate <= 0.35


TRANSLATION = {
    "type": "translation",
    "audio": {"input": {"transcription": {"model": "any"}}, "output": {"language": "en"}},
}


def joined(client: Peer, kind: str) -> str:
    """All deltas of that type."""
    return "".join(event["delta"] for event in client.events if event["type"] == kind)


async def test_a_translation_session_over_webrtc(small_server: RunningServer):
    (german,) = recordings("de")[:1]
    async with peer(small_server.url, TRANSLATION, "realtime/translations") as client:
        assert client.location.startswith("/v1/realtime/translations/calls/rtc_")
        session = client.events[0]["session"]
        assert session["type"] == "translation"
        assert session["audio"]["input"]["transcription"]["model"] == "any"
        client.microphone.say(german.samples())
        await client.event("session.output_transcript.delta")
        client.send({"type": "session.input_audio_buffer.append", "audio": "AAAA"})
        assert (await client.event("error"))["error"]["code"] == "audio_in_media_track"
        client.send({"type": "session.close"})
        await client.event("session.closed")
        await client.closed()
    kinds = {event["type"] for event in client.events} - {"error"}
    assert kinds == {
        "session.created",
        "session.input_transcript.delta",
        "session.output_transcript.delta",
        "session.closed",
    }
    assert "portal" in joined(client, "session.input_transcript.delta").lower()
    assert "portal" in joined(client, "session.output_transcript.delta").lower()


async def test_a_page_translates_with_a_client_secret(small_server: RunningServer):
    async with AsyncOpenAI(api_key="any", base_url=f"{small_server.url}/v1") as openai:
        made = await openai.realtime.translations.client_secrets.create(
            session={"model": "any", "audio": {"input": {"transcription": {"model": "mine"}}}}
        )
    async with peer(small_server.url, None, "realtime/translations", made.value) as client:
        shown = client.events[0]["session"]["audio"]["input"]["transcription"]
        assert shown["model"] == "mine"
        async with httpx2.AsyncClient() as http:
            hang_up = f"{small_server.url}{client.location}/hangup"
            headers = {"Authorization": f"Bearer {made.value}"}
            assert (await http.post(hang_up, headers=headers)).status_code == 200
        await client.closed()


async def test_a_language_that_cannot_be_had_is_refused_before_the_call(
    small_server: RunningServer,
):
    asked = {"audio": {"output": {"language": "es"}}}
    with pytest.raises(AssertionError, match=r"session\.audio\.output\.language"):
        async with peer(small_server.url, asked, "realtime/translations"):
            pass


async def test_the_script_that_measures_words_lost(small_server: RunningServer):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "scripts.wer_over_loss", "--url", small_server.url),
        *("--rounds", "1", "--recordings", "1", "--calls", "1", "--loss", "0.1"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    line, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    figures = json.loads(line)
    assert figures["points"] == pytest.approx(
        100 * (figures["wer_lossy"] - figures["wer_clean"]), abs=0.02
    )
    assert figures["wer_lossy"] <= 0.35
    assert 0 < figures["lost"] < figures["packets"] / 4
    assert min(figures["turns_lossy"], figures["turns_clean"]) >= 1


async def test_a_session_that_cannot_be_is_refused_by_its_field(small_server: RunningServer):
    with pytest.raises(AssertionError, match=r"audio\.input\.turn_detection\.threshold"):
        async with peer(
            small_server.url,
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 3}}}},
        ):
            pass
