"""How a refusal reads."""

import json

from agent.errors import EngineUnavailable, NotAuthorized
from agent.gateway.refusals import Refusal, answer_subprotocol, close_reason, error_event


def test_an_http_refusal_has_the_protocols_error_shape():
    error = NotAuthorized("the API key is wrong", param="Authorization")
    response = Refusal(error, 401, 3000, headers={"WWW-Authenticate": "Bearer"}).response()
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert json.loads(response.body) == {
        "error": {
            "type": "authentication_error",
            "code": "invalid_api_key",
            "message": "Authorization: the API key is wrong",
            "param": "Authorization",
        }
    }


def test_our_own_faults_are_server_errors():
    event = error_event(EngineUnavailable("loading"))
    assert event["type"] == "error"
    assert event["error"]["type"] == "server_error"
    assert event["error"]["code"] == "engine_unavailable"
    assert event["event_id"] != error_event(EngineUnavailable("loading"))["event_id"]


def test_a_close_reason_fits_and_stays_text():
    assert close_reason("short") == "short"
    cut = close_reason("ü" * 100)
    assert cut == "ü" * 61
    assert len(cut.encode()) <= 123


def test_only_the_realtime_subprotocol_is_answered():
    assert answer_subprotocol(["openai-insecure-api-key.sk-1", "realtime"]) == "realtime"
    assert answer_subprotocol(["openai-insecure-api-key.sk-1"]) is None
    assert answer_subprotocol([]) is None
