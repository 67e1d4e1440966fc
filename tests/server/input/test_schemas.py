"""What requests must be and what answers are: every rule of spec section 2, and the seed's bodies."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from pydantic import BaseModel, TypeAdapter

from vigil.actors.core.records import TimeoutPatch
from vigil.server.input import schemas
from vigil.server.input.schemas import (
    CreateSession,
    EventsQuery,
    Invalid,
    ListSessionsQuery,
    MessagesQuery,
    NoBody,
    NoQuery,
    SendMessage,
    TimeoutUpdate,
    validate_body,
    validate_query,
)

OWNERS = {"agentId": "agent-123", "userId": "user-456"}
FILE = {"type": "image", "url": "https://example.com/cat.png", "name": "cat.png"}


def problems(model: type[BaseModel], body: object) -> dict[str, str]:
    """Path to message; nothing when the body is valid. The published JSON Schema must agree."""
    schema = json.dumps(model.model_json_schema()).replace(
        '$"', r'\\Z"'
    )  # JSON Schema's $, in Python's words
    published = Draft202012Validator(json.loads(schema))
    try:
        validate_body(model, body)
    except Invalid as invalid:
        if not any(rule in str(invalid) for rule in BEYOND_JSON_SCHEMA):
            assert not published.is_valid(body), "the schema lets it pass"
        return {problem["path"]: problem["message"] for problem in invalid.errors}
    published.validate(body)
    return {}


BEYOND_JSON_SCHEMA = ["bytes as compact JSON"]


def query_problems(model: type[BaseModel], *pairs: tuple[str, str]) -> dict[str, str]:
    try:
        validate_query(model, pairs)
    except Invalid as invalid:
        return {problem["path"]: problem["message"] for problem in invalid.errors}
    return {}


# -- Create


def test_the_seeds_create_body_is_valid() -> None:
    config = {
        "timeoutMinutes": 30,
        "autoRenew": True,
        "maxDurationMinutes": 180,
        "warningThresholdMinutes": 5,
    }
    body = validate_body(CreateSession, {**OWNERS, "metadata": {}, "timeoutConfig": config})
    assert (body.agent_id, body.user_id, body.metadata_json) == ("agent-123", "user-456", "{}")
    assert body.timeout_config.patch() == TimeoutPatch(30, True, 180, 5)


def test_what_may_be_left_out_may_be_left_out() -> None:
    body = validate_body(CreateSession, OWNERS)
    assert body.metadata_json == "{}"
    assert body.timeout_config.patch() == TimeoutPatch()


def test_every_problem_is_listed_with_its_path() -> None:
    body = {
        "userId": "",
        "metadata": {"a": {"b": None}, "c": [1, None]},
        "timeoutConfig": {"timeoutMinutes": 4, "autoRenew": 1, "extra": 1},
        "agent_id": "agent-123",
    }
    assert problems(CreateSession, body) == {
        "agentId": "is required",
        "userId": "must not be empty",
        "metadata.a.b": "must not be null",
        "metadata.c[1]": "must not be null",
        "timeoutConfig.timeoutMinutes": "must be at least 5",
        "timeoutConfig.autoRenew": "must be true or false",
        "timeoutConfig.extra": "is not known here",
        "agent_id": "is not known here",
    }


@pytest.mark.parametrize("body", [[], "text", 5, True, None, [OWNERS]])
def test_a_body_must_be_an_object(body: object) -> None:
    for model in (CreateSession, SendMessage, TimeoutUpdate, NoBody):
        assert list(problems(model, body)) == [""]


@pytest.mark.parametrize("field", ["agentId", "userId"])
@pytest.mark.parametrize(
    "value",
    [
        "x",
        "a" * 128,
        "0b6f1a52-7b8e-4d8e-9c59-3f1f3c8c9a10",
        "user@example.org",
        "/../?#%00",
        "é😀",
        "😀" * 128,
    ],
)
def test_an_id_is_whatever_the_client_has(field: str, value: str) -> None:
    assert problems(CreateSession, OWNERS | {field: value}) == {}
    assert query_problems(ListSessionsQuery, (field, value)) == {}


@pytest.mark.parametrize("field", ["agentId", "userId"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "a" * 129,
        " ",
        "a b",
        "a\n",
        "\ta",
        "a\0",
        "a\x1f",
        "a\x7f",
        "a\x85",
        "a\x9f",
        "a\xa0b",
        "a\u2003",
        "\u2028",
    ],
)
def test_an_id_has_no_whitespace_and_no_control_characters(field: str, value: str) -> None:
    assert list(problems(CreateSession, OWNERS | {field: value})) == [field]
    assert list(query_problems(ListSessionsQuery, (field, value))) == [field]


@pytest.mark.parametrize("value", [None, 5, True, ["a"], {"id": "a"}])
def test_an_id_is_a_string(value: object) -> None:
    assert list(problems(CreateSession, OWNERS | {"userId": value})) == ["userId"]


# -- Timeouts, in create and in update

RANGES = [("timeoutMinutes", 5, 1440), ("maxDurationMinutes", 1, 4320), ("warningThresholdMinutes", 1, 60)]


@pytest.mark.parametrize(("field", "least", "most"), RANGES)
def test_minutes_are_json_integers_in_their_range_and_never_clamped(
    field: str, least: int, most: int
) -> None:
    for good in (least, most, float(least), float(most)):
        assert problems(TimeoutUpdate, {field: good}) == {}
    for outside in (least - 1, most + 1, 0, -30, float(most + 1), 10**30, 1e300):
        assert "must be at" in problems(TimeoutUpdate, {field: outside})[field]
    others: list[Any] = [least + 0.5, str(least), "", True, False, [least], {}]
    for other in others:
        assert problems(TimeoutUpdate, {field: other}) == {field: "must be a whole number"}
        assert problems(CreateSession, {**OWNERS, "timeoutConfig": {field: other}})
    assert problems(TimeoutUpdate, {field: None}) == {field: "must not be null"}


def test_an_integral_float_becomes_an_integer() -> None:
    minutes = validate_body(TimeoutUpdate, {"timeoutMinutes": 5.0}).timeout_minutes
    assert type(minutes) is int


@pytest.mark.parametrize("value", [0, 1, "true", "", None, [], {}])
def test_auto_renew_is_a_json_boolean(value: object) -> None:
    assert list(problems(TimeoutUpdate, {"autoRenew": value})) == ["autoRenew"]


def test_an_update_says_only_what_it_changes() -> None:
    assert validate_body(TimeoutUpdate, {"autoRenew": False}).patch() == TimeoutPatch(None, False)


def test_an_update_needs_at_least_one_field() -> None:
    assert problems(TimeoutUpdate, {}) == {"": "must have at least one field of the timeout config"}
    assert problems(CreateSession, {**OWNERS, "timeoutConfig": {}}) == {}


def test_a_maximum_below_the_timeout_is_left_to_the_formula() -> None:
    config = {"timeoutMinutes": 1440, "maxDurationMinutes": 1, "warningThresholdMinutes": 60}
    assert problems(TimeoutUpdate, config) == {}


@pytest.mark.parametrize("field", ["metadata", "timeoutConfig"])
def test_null_is_not_the_same_as_nothing(field: str) -> None:
    assert problems(CreateSession, {**OWNERS, field: None}) == {field: "must not be null"}


# -- Metadata, of sessions and messages


@pytest.mark.parametrize("body", [OWNERS, {"content": "hi"}])
def test_metadata_may_be_anything_but_null(body: dict[str, Any]) -> None:
    model: type[CreateSession | SendMessage] = CreateSession if "agentId" in body else SendMessage
    metadata = {"s": "é\0\u2028", "n": [0, -1.5, 10**29, 1e-7], "b": [True, False], "": {"x": [], "y": {}}}
    text = validate_body(model, {**body, "metadata": metadata}).metadata_json
    assert json.loads(text) == metadata
    assert '":' in text
    assert " " not in text
    assert problems(model, {**body, "metadata": metadata}) == {}


@pytest.mark.parametrize("metadata", [None, [], "text", 5, True])
def test_metadata_is_an_object(metadata: object) -> None:
    assert list(problems(CreateSession, {**OWNERS, "metadata": metadata})) == ["metadata"]


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"a": None}, "metadata.a"),
        ({"a": {"b": {"c": {"d": None}}}}, "metadata.a.b.c.d"),
        ({"a": [[1, None]]}, "metadata.a[0][1]"),
    ],
)
def test_null_is_refused_at_any_depth_of_metadata(metadata: object, path: str) -> None:
    assert problems(SendMessage, {"content": "hi", "metadata": metadata}) == {path: "must not be null"}


def test_metadata_has_five_levels_itself_the_first_arrays_and_objects_alike() -> None:
    assert problems(CreateSession, {**OWNERS, "metadata": {"2": {"3": {"4": {"5": 1}}}}}) == {}
    assert problems(CreateSession, {**OWNERS, "metadata": {"2": [{"4": [["text"]]}]}}) == {}
    for sixth in ("{}", "[]"):
        body = {**OWNERS, "metadata": {"2": [{"4": [[json.loads(sixth)]]}]}}
        assert problems(CreateSession, body) == {"metadata.2[0].4[0][0]": "is deeper than 5 levels"}


@pytest.mark.parametrize("letter", ["a", "é", "€", "😀", "\n", '"'])
def test_metadata_has_at_most_16384_bytes_of_compact_utf_8(letter: str) -> None:
    def fits(size: int) -> bool:
        each = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
        count, rest = divmod(size - len(b'{"k":""}'), each)
        metadata = {"k": letter * count + "x" * rest}
        return problems(CreateSession, {**OWNERS, "metadata": metadata}) == {}

    assert fits(16_384)
    assert not fits(16_385)


_leaves = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.dictionaries(st.text(), _leaves | st.lists(_leaves) | st.dictionaries(st.text(), _leaves)))
def test_metadata_comes_back_as_it_was(metadata: dict[str, Any]) -> None:
    text = validate_body(CreateSession, {**OWNERS, "metadata": metadata}).metadata_json
    assert json.loads(text) == metadata


# -- Messages


def test_the_seeds_message_is_valid() -> None:
    body = validate_body(SendMessage, {"content": "Hello", "attachments": [FILE], "metadata": {}})
    assert (body.content, body.transport, body.metadata_json) == ("Hello", "websocket", "{}")
    assert json.loads(body.attachments_json) == [FILE]
    assert body.attachment_names == ["cat.png"]


def test_content_has_1_to_10000_code_points() -> None:
    for good in ("x", "😀" * 10_000, "\u200b", " x ", "\0"):
        assert problems(SendMessage, {"content": good}) == {}
    for bad in ("", "x" * 10_001, "😀" * 10_001):
        assert list(problems(SendMessage, {"content": bad})) == ["content"]


@pytest.mark.parametrize("blank", [" ", "\n\t\r", "\x1c", "\x85\xa0", "\u2003\u2028\u3000"])
def test_content_is_not_only_whitespace(blank: str) -> None:
    assert problems(SendMessage, {"content": blank}) == {"content": "must not be only whitespace"}


@pytest.mark.parametrize("content", [None, 5, True, ["x"], {}])
def test_content_is_a_string(content: object) -> None:
    assert list(problems(SendMessage, {"content": content})) == ["content"]
    assert problems(SendMessage, {}) == {"content": "is required"}


@pytest.mark.parametrize("transport", ["websocket", "http", "sse"])
def test_a_transport_is_one_of_three(transport: str) -> None:
    assert validate_body(SendMessage, {"content": "hi", "transport": transport}).transport == transport
    for bad in ("HTTP", "", None, 1):
        assert list(problems(SendMessage, {"content": "hi", "transport": bad})) == ["transport"]


def attach(*files: object) -> dict[str, str]:
    return problems(SendMessage, {"content": "hi", "attachments": list(files)})


def test_a_message_has_at_most_ten_attachments() -> None:
    assert attach(*[FILE] * 10) == {}
    assert attach(*[FILE] * 11) == {"attachments": "must have at most 10 items"}


def test_no_attachments_are_stored_as_none() -> None:
    for body in ({"content": "hi"}, {"content": "hi", "attachments": []}):
        assert validate_body(SendMessage, body).attachments_json == ""


@pytest.mark.parametrize("field", ["type", "url", "name"])
def test_an_attachment_needs_type_url_and_name(field: str) -> None:
    assert attach({key: FILE[key] for key in FILE if key != field}) == {
        f"attachments[0].{field}": "is required"
    }
    assert attach(FILE, FILE | {field: None}) == {f"attachments[1].{field}": "must not be null"}


@pytest.mark.parametrize(("field", "most"), [("type", 64), ("name", 255)])
def test_type_and_name_of_an_attachment_have_their_length(field: str, most: int) -> None:
    assert attach(FILE | {field: "é" * most}) == {}
    assert list(attach(FILE | {field: "é" * (most + 1)})) == [f"attachments[0].{field}"]


def test_size_and_media_type_of_an_attachment_are_optional() -> None:
    whole = FILE | {"size": 10**20, "mimeType": "image/png"}
    body = validate_body(SendMessage, {"content": "hi", "attachments": [whole]})
    assert json.loads(body.attachments_json) == [whole]
    assert attach(FILE | {"size": 0}, FILE | {"size": 5.0}) == {}
    for bad in (-1, 0.5, "5", True, None):
        assert list(attach(FILE | {"size": bad})) == ["attachments[0].size"]
    for bad in (5, None):
        assert list(attach(FILE | {"mimeType": bad})) == ["attachments[0].mimeType"]
    assert attach(FILE | {"mime_type": "x"}) == {"attachments[0].mime_type": "is not known here"}


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "HTTPS://EXAMPLE.com:8443/a/b?c=d#e",
        "https://user:secret@example.com/",
        "https://[2001:db8::1]:80/x",
        "http://localhost?x",
        "https://例え.jp/猫.png",
        "https://example.com/" + "x" * (2_048 - 20),
        "data:image/png;base64,iVBORw0KGgo=",
        "DATA:Image/GIF,x",
        "data:audio/mpeg;base64,AA==",
        "data:video/mp4;codecs=x;base64,AA==",
        "data:text/plain,hi",
        "data:text/plain;charset=utf-8,hi%20there,again",
        "data:text/plain," + "x" * (65_536 - 16),
        "data:image/png;note=image/svg+xml,x",
    ],
)
def test_an_attachment_may_be_at_a_web_or_data_url(url: str) -> None:
    assert attach(FILE | {"url": url}) == {}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cat.png",
        "//example.com/cat.png",
        "ftp://example.com/cat.png",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "blob:https://example.com/1",
        "http:example.com",
        "http:/example.com",
        "http://",
        "http:///path",
        "http://?x",
        "https://user@/x",
        "https://:80/",
        "https://[::1/",
        "http:\\\\example.com",
        "http://example.com\\@evil.example/",
        " https://example.com",
        "https://example.com/a b",
        "https://exam\tple.com",
        "https://example.com/\n",
        "https://example.com/\0",
        "https://example.com:port/",
        "https://example.com/" + "x" * (2_049 - 20),
        "data:,x",
        "data:text/html,<p>",
        "data:text/html;text/plain,x",
        "data:text/plainx,x",
        "data:application/pdf;base64,AA==",
        "data:image/png",
        "data:image/,x",
        "data:image/svg+xml,<svg/>",
        "data:image/SVG+xml;base64,AA==",
        "data:image/svg+xml;charset=utf-8;image/png,x",
        "Data:IMAGE/Svg+Xml ,x",
        "data:image/svg%2Bxml,x",
        "data: image/svg+xml,x",
        "data:image/png\n,x",
        "data:text/plain," + "x" * (65_537 - 16),
    ],
)
def test_an_attachment_is_not_anywhere_else(url: str) -> None:
    refused = attach(FILE | {"url": url})
    assert list(refused) == ["attachments[0].url"]
    assert refused["attachments[0].url"].startswith("must ")


# -- No body, no query


def test_an_empty_body_is_nothing_but_an_empty_object() -> None:
    assert problems(NoBody, {}) == {}
    assert problems(NoBody, {"reason": "x"}) == {"reason": "is not known here"}
    assert query_problems(NoQuery) == {}
    assert query_problems(NoQuery, ("a", "1")) == {"a": "is not known here"}


# -- Queries


def test_a_query_has_its_defaults() -> None:
    listing = validate_query(ListSessionsQuery, [])
    assert (listing.agent_id, listing.user_id, listing.status) == (None, None, "active")
    assert (listing.limit, listing.offset) == (50, 0)
    messages = validate_query(MessagesQuery, [])
    assert (messages.limit, messages.before, messages.after) == (50, None, None)
    assert validate_query(EventsQuery, []).last_event_id is None


NUMBERS: list[tuple[type[BaseModel], str, int, int]] = [
    (ListSessionsQuery, "limit", 1, 1_000),
    (ListSessionsQuery, "offset", 0, 10_000),
    (MessagesQuery, "limit", 1, 100),
    (MessagesQuery, "before", 0, 2**63 - 1),
    (MessagesQuery, "after", 0, 2**63 - 1),
    (EventsQuery, "lastEventId", 0, 2**63 - 1),
]


@pytest.mark.parametrize(("model", "name", "least", "most"), NUMBERS)
def test_a_querys_number_is_ascii_digits_in_its_range(
    model: type[BaseModel], name: str, least: int, most: int
) -> None:
    for good in (str(least), str(most), f"00{most}"):
        query = validate_query(model, [(name, good)])
        assert query.model_dump(by_alias=True)[name] == int(good)
    for bad in (str(most + 1), "9" * 5_000, *([str(least - 1)] if least else [])):
        assert "must be at" in query_problems(model, (name, bad))[name]
    for bad in (
        "",
        " 5",
        "5 ",
        "+5",
        "-5",
        "5.0",
        "5e0",
        "0x5",
        "1_0",
        "\u0661",
        "\u096b",
        "²",
        "five",
        "null",
        "5\n",
    ):
        assert "digits" in query_problems(model, (name, bad))[name]


def test_a_status_is_one_of_three() -> None:
    for good in ("active", "expired", "all"):
        assert validate_query(ListSessionsQuery, [("status", good)]).status == good
    for bad in ("", "Active", "ended"):
        assert query_problems(ListSessionsQuery, ("status", bad)) == {
            "status": "must be 'active', 'expired' or 'all'"
        }


def test_repeated_and_unknown_names_are_named() -> None:
    refused = query_problems(
        ListSessionsQuery, ("limit", "5"), ("limit", "5"), ("order", "asc"), ("agent_id", "x")
    )
    assert refused == {
        "limit": "is given more than once",
        "order": "is not known here",
        "agent_id": "is not known here",
    }
    assert query_problems(ListSessionsQuery, ("limit", "0"), ("", "x")) == {
        "limit": "must be at least 1",
        '""': "is not known here",
    }


# -- How problems are told


def test_the_message_says_the_first_problem_and_that_there_are_others() -> None:
    with pytest.raises(Invalid, match=r"^userId is required$"):
        validate_body(CreateSession, {"agentId": "x"})
    with pytest.raises(Invalid, match=r"^agentId is required; details\.errors has the others$"):
        validate_body(CreateSession, {})
    with pytest.raises(Invalid, match=r"^the request must be an object$"):
        validate_body(CreateSession, [])


def test_what_the_client_sent_is_not_repeated_at_length() -> None:
    body = {
        "agentId": "x" * 50_000,
        "k" * 50_000: 1,
        "metadata": {"m" * 50_000: None},
        "timeoutConfig": {"timeoutMinutes": 10**3000},
    }
    with pytest.raises(Invalid) as refused:
        validate_body(CreateSession, body)
    assert len(refused.value.errors) == 5
    assert len(json.dumps(refused.value.errors)) < 1_000


@pytest.mark.parametrize(
    "body",
    [
        {str(n): 1 for n in range(20_000)},
        {**OWNERS, "metadata": {"nulls": [None] * 50_000}},
        {**OWNERS, "timeoutConfig": {str(n): 1 for n in range(20_000)}},
    ],
    ids=["fields", "nulls", "config"],
)
def test_of_very_many_problems_the_first_hundred_are_listed(body: object) -> None:
    with pytest.raises(Invalid) as refused:
        validate_body(CreateSession, body)
    assert len(refused.value.errors) == 101
    assert refused.value.errors[-1] == {"path": "", "message": "has more problems than these 100"}


def test_ten_attachments_with_very_many_unknown_fields_are_refused_with_the_first_hundred() -> None:
    file = FILE | {str(n): 1 for n in range(3_000)}
    assert len(attach(*[file] * 10)) == 101


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
