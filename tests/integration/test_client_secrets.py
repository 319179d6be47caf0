"""Client secrets open sessions with their settings, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI, BadRequestError
from openai.types.realtime import RealtimeTranslationClientSecretCreateResponse

from agent.errors import LimitExceeded
from agent.gateway import client_secrets
from agent.gateway.client_secrets import ClientSecret, ClientSecrets
from tests.helpers.gateway import RunningGateway, gateway

KEY = "the-real-key"


async def ask(
    running: RunningGateway, body: Any, key: str = KEY, kind: str = "realtime"
) -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        return await http.post(
            f"{running.url}/v1/{kind}/client_secrets",
            content=body if isinstance(body, str) else json.dumps(body),
            headers={"Authorization": f"Bearer {key}"},
        )


async def opened(running: RunningGateway, secret: str, path: str = "") -> dict[str, Any]:
    """The first event of a session that was opened as a browser does."""
    protocols = ["realtime", f"openai-insecure-api-key.{secret}"]
    async with websockets.connect(running.ws_url + path, subprotocols=protocols) as client:
        return json.loads(await client.recv())


async def test_a_secret_opens_sessions_until_it_expires(monkeypatch: pytest.MonkeyPatch):
    async with gateway(api_key=KEY) as running:
        made = (
            await ask(running, {"expires_after": {"anchor": "created_at", "seconds": 60}})
        ).json()
        assert made["value"].startswith("ek_")
        for _ in range(2):
            assert (await opened(running, made["value"]))["type"] == "session.created"
        now = made["expires_at"]
        monkeypatch.setattr(client_secrets.time, "time", lambda: now)
        assert (await opened(running, made["value"]))["error"]["code"] == "invalid_client_secret"


async def test_a_secret_does_nothing_else():
    async with gateway(api_key=KEY) as running:
        value = (await ask(running, {})).json()["value"]
        assert (await ask(running, {}, key=value)).json()["error"][
            "code"
        ] == "client_secret_not_enough"
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {value}"}) as http:
            assert (await http.get(f"{running.url}/metrics")).status_code == 401
            assert (await http.get(f"{running.url}/v1/models")).status_code == 200
            assert (await http.get(f"{running.url}/v1/realtime/ice_servers")).status_code == 200


async def test_a_secret_opens_sessions_of_its_kind_only():
    async with gateway(api_key=KEY) as running:
        talks = (await ask(running, {})).json()["value"]
        translates = (await ask(running, {}, kind="realtime/translations")).json()["value"]
        first = await opened(running, translates, "/translations")
        assert first["type"] == "session.created"
        for secret, path in ((translates, ""), (talks, "/translations")):
            refused = await opened(running, secret, path)
            assert refused["error"]["code"] == "client_secret_not_enough"
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {translates}"}) as http:
            for path, status in (("translations/calls", 400), ("calls", 401)):
                answer = await http.post(f"{running.url}/v1/realtime/{path}", content="")
                assert answer.status_code == status
            hang_up = f"{running.url}/v1/realtime/translations/calls/rtc_none/hangup"
            assert (await http.post(hang_up)).status_code == 404


async def test_a_kind_that_is_not_served_is_refused_with_and_without_a_secret():
    async with gateway(api_key=KEY) as running:
        secret = (await ask(running, {})).json()["value"]
        for key in (secret, KEY):
            refused = await opened(running, key, "?intent=karaoke")
            assert refused["error"]["param"] == "intent"


async def test_unknown_secrets_are_refused_even_where_no_key_is_needed():
    async with gateway() as running:
        assert (await opened(running, "ek_unknown"))["error"]["code"] == "invalid_client_secret"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"seconds": 5}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "expires_after.anchor"),
        ({"sesion": {}}, "sesion"),
        ({"session": {"type": "realtime", "instructons": ""}}, "session.instructons"),
        ({"session": []}, "session"),
        ({"session": {"type": "translation"}}, "session.type"),
        ("{", None),
        ("[1]", None),
        ("[" * 10_000, None),
        ({"session": {"tool_choice": json.loads('{"a":' * 300 + "1" + "}" * 300)}}, None),
    ],
)
async def test_a_bad_request_is_told_its_field(body: Any, param: str | None):
    async with gateway(api_key=KEY) as running:
        answer = await ask(running, body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


async def test_the_openai_sdk_makes_and_reads_them():
    async with (
        gateway(api_key=KEY) as running,
        AsyncOpenAI(api_key=KEY, base_url=f"{running.url}/v1") as client,
    ):
        made = await client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 600},
            session={"type": "realtime", "instructions": "Speak like a pirate."},
        )
        assert made.session.type == "realtime"
        assert made.session.instructions == "Speak like a pirate."
        heard = await client.realtime.client_secrets.create(session={"type": "transcription"})
        assert heard.session.type == "transcription"


async def test_the_openai_sdk_makes_and_reads_those_of_translations():
    async with (
        gateway(api_key=KEY) as running,
        AsyncOpenAI(api_key=KEY, base_url=f"{running.url}/v1") as client,
    ):
        made = await client.realtime.translations.client_secrets.create(
            session={"model": "any", "audio": {"output": {"language": "de"}}}
        )
        RealtimeTranslationClientSecretCreateResponse.model_validate(made.model_dump())
        assert made.value.startswith("ek_")
        assert made.session.type == "translation"
        assert made.session.model == "idle-1"
        assert made.session.audio.output.language == "de"
        with pytest.raises(BadRequestError) as refused:
            await client.realtime.translations.client_secrets.create(
                session={"model": "any", "audio": {"output": {"language": "Klingon"}}}
            )
        assert refused.value.param == "session.audio.output.language"


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=40))
def test_a_secret_is_good_exactly_until_it_expires(steps: list[tuple[int, bool]]):
    store, now, made = ClientSecrets(), 0.0, []
    for seconds, create in steps:
        if create:
            secret = ClientSecret({"n": len(made)}, now + seconds)
            made.append((store.create(secret, now), secret.expires_at))
        else:
            now += seconds
        for index, (value, expires_at) in enumerate(made):
            found = store.find(value.encode(), now)
            assert (found is not None) == (now < expires_at)
            assert found is None or found.session == {"n": index}


def test_there_are_never_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_secrets, "MOST_SECRETS", 2)
    store = ClientSecrets()
    store.create(ClientSecret({}, 10), 0)
    store.create(ClientSecret({}, 20), 0)
    with pytest.raises(LimitExceeded, match="in use"):
        store.create(ClientSecret({}, 30), 5)
    store.create(ClientSecret({}, 30), 11)
