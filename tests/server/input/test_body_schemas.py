"""Bodies of requests: what is taken, what is refused, and with which words (spec section 4)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server.input.problems import (
    FILE,
    OWNERS,
    RANGES,
    attach,
    problems,
    query_problems,
)
from vigil.actors.core.records import TimeoutPatch
from vigil.server.input.schemas import (
    CreateSession,
    ListSessionsQuery,
    NoBody,
    NoQuery,
    SendMessage,
    TimeoutUpdate,
    validate_body,
)

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
