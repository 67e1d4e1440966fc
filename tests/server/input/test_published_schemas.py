"""The schemas that are published: closed, valid, and those of the answers."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from pydantic import BaseModel, TypeAdapter

from tests.server.input.problems import FILE, RANGES, problems
from vigil.server.input import schemas
from vigil.server.input.schemas import (
    CreateSession,
    EventsQuery,
    ListSessionsQuery,
    MessagesQuery,
    NoBody,
    NoQuery,
    SendMessage,
    TimeoutUpdate,
)

# -- The schemas that OpenAPI publishes

REQUESTS: list[type[BaseModel]] = [
    CreateSession,
    SendMessage,
    TimeoutUpdate,
    NoBody,
    ListSessionsQuery,
    MessagesQuery,
    EventsQuery,
    NoQuery,
]


@pytest.mark.parametrize("model", REQUESTS)
def test_a_requests_schema_is_valid_and_closed_and_says_what_each_field_is(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert schema["description"]
    for name, field in schema["properties"].items():
        assert field["description"], name
        assert field.get("default", "") is not None, "null is never allowed"
        for example in field.get("examples", []):
            Draft202012Validator({**field, "$defs": schema.get("$defs", {})}).validate(example)


@pytest.mark.parametrize("model", [CreateSession, SendMessage, TimeoutUpdate])
def test_a_bodys_examples_are_valid(model: type[BaseModel]) -> None:
    for example in model.model_json_schema()["examples"]:
        assert problems(model, example) == {}


def test_the_schema_states_ranges_lengths_patterns_and_defaults() -> None:
    update = TimeoutUpdate.model_json_schema()
    assert {
        name: (field["minimum"], field["maximum"])
        for name, field in update["properties"].items()
        if field["type"] == "integer"
    } == {name: (least, most) for name, least, most in RANGES}
    assert update["minProperties"] == 1
    create = CreateSession.model_json_schema()["properties"]
    assert (create["userId"]["minLength"], create["userId"]["maxLength"]) == (1, 128)
    assert create["metadata"]["default"] == {}
    send = SendMessage.model_json_schema()["properties"]
    assert (send["content"]["maxLength"], send["content"]["pattern"]) == (10_000, r"\S")
    assert send["attachments"]["maxItems"] == 10
    assert send["transport"]["default"] == "websocket"
    listing = ListSessionsQuery.model_json_schema()["properties"]
    assert (listing["limit"]["default"], listing["limit"]["maximum"]) == (50, 1_000)
    assert listing["status"]["enum"] == ["active", "expired", "all"]


# -- Answers

AT = "2026-11-22T09:00:00.000Z"


CONFIG = {"timeoutMinutes": 30, "autoRenew": True, "maxDurationMinutes": 180, "warningThresholdMinutes": 5}


# The seed's bodies, and under each name the fields that the spec adds to them.
CREATED = {
    "sessionId": "s",
    "agentId": "a",
    "userId": "u",
    "createdAt": AT,
    "expiresAt": AT,
    "timeoutConfig": CONFIG,
    "renewalCount": 0,
    "metadata": {},
}


LISTED = {
    "sessionId": "s",
    "agentId": "a",
    "userId": "u",
    "createdAt": AT,
    "expiresAt": AT,
    "timeRemaining": 0,
    "isNearExpiration": False,
    "renewalCount": 0,
}


SESSION = LISTED | {"lastActivity": AT, "timeoutConfig": CONFIG, "metadata": {}}


MESSAGE = {"id": "m", "content": "x", "authorId": "u", "isAgent": False, "createdAt": AT, "metadata": {}}


SENT = {
    "id": "m",
    "content": "x",
    "authorId": "u",
    "createdAt": AT,
    "metadata": {},
    "sessionStatus": {"expiresAt": AT, "renewalCount": 0, "wasRenewed": False, "isNearExpiration": False},
}


STATE = {"status": "active"}


STATS = {"totalSessions": 0, "activeSessions": 0, "expiredSessions": 0}


ANSWERS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # the type, the seed's body, what the spec adds always, and what it adds sometimes
    ("NewSessionBody", CREATED, STATE | {"channelId": "c", "maxExpiresAt": AT}, {}),
    ("CreatedSessionBody", CREATED, STATE | {"channelId": "c", "maxExpiresAt": AT, "sessionToken": "t"}, {}),
    ("SessionBody", SESSION, STATE | {"maxExpiresAt": AT}, {}),
    ("ListedSessionBody", LISTED, STATE, {}),
    (
        "SessionListBody",
        {"sessions": [LISTED | STATE], "total": 1, "limit": 1, "offset": 0, "stats": STATS},
        {},
        {},
    ),
    ("EndedBody", {"success": True, "message": "Session s deleted successfully"}, {}, {}),
    ("MessageBody", MESSAGE, {}, {"attachments": [FILE], "finishReason": "stop"}),
    ("SentMessageBody", SENT, {}, {"attachments": [FILE], "agentResponse": MESSAGE | {"text": "x"}}),
    ("AgentResponseBody", MESSAGE, {"text": "x"}, {"attachments": [FILE], "finishReason": "stop"}),
    (
        "HistoryBody",
        {"messages": [MESSAGE], "hasMore": False, "cursors": {"before": 0, "after": 0}},
        {},
        {},
    ),
    (
        "HealthBody",
        {
            "status": "healthy",
            "activeSessions": 123,
            "timestamp": AT,
            "expiringSoon": 123,
            "invalidSessions": 123,
            "uptime": 123,
        },
        {},
        {},
    ),
    ("ErrorBody", {"error": "e", "code": "C", "message": "m", "details": {"any": [None]}}, {}, {}),
    ("Problem", {"path": "", "message": "must be an object"}, {}, {}),
]


@pytest.mark.parametrize(("name", "seed", "always", "sometimes"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_an_answer_is_the_seeds_body_and_the_specs_fields_and_no_more(
    name: str, seed: dict[str, Any], always: dict[str, Any], sometimes: dict[str, Any]
) -> None:
    schema = TypeAdapter(getattr(schemas, name)).json_schema()
    Draft202012Validator.check_schema(schema)
    answer = Draft202012Validator(schema, format_checker=FormatChecker())
    whole = seed | always
    answer.validate(whole)
    answer.validate(whole | sometimes)
    assert set(schema["required"]) == set(whole)
    assert set(schema["properties"]) == set(whole) | set(sometimes)
    for field in whole:
        assert not answer.is_valid({key: whole[key] for key in whole if key != field})
        assert field == "details" or not answer.is_valid(whole | {field: None})
    assert not answer.is_valid(whole | {"extra": 1})


def test_times_in_answers_are_date_times() -> None:
    properties = TypeAdapter(schemas.SessionBody).json_schema()["properties"]
    times = {name for name, field in properties.items() if field.get("format") == "date-time"}
    assert times == {"createdAt", "lastActivity", "expiresAt", "maxExpiresAt"}
