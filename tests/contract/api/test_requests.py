"""What a request's body must be before anybody looks at its fields (spec section 2): its type, its size, its JSON."""

import json
from typing import Any

import pytest

from tests.contract.operations import (
    CREATE,
    END,
    GET,
    HEARTBEAT,
    HISTORY,
    LIST,
    NEW_SESSION,
    RENEW,
    RETIME,
    SEND,
    Operation,
    errors,
    subject,
)
from tests.harness import FRAMED_WAYS, Api

BODY_MAX = 256 * 1024
JSON = {"Content-Type": "application/json"}
CHUNKED = {**JSON, "Transfer-Encoding": "chunked"}
NEED_A_BODY = pytest.mark.parametrize(
    "operation", [CREATE, SEND, RETIME], ids=lambda operation: operation.name
)
TAKE_NO_BODY = pytest.mark.parametrize("operation", [RENEW, HEARTBEAT], ids=lambda operation: operation.name)
IGNORE_BODIES = pytest.mark.parametrize(
    "operation", [LIST, GET, HISTORY, END], ids=lambda operation: operation.name
)


def padded(body: Any, size: int) -> bytes:
    """JSON of exactly so many bytes."""
    return json.dumps(body).encode().ljust(size)


# --- content types


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; profile=x; version=1",
    ],
)
@NEED_A_BODY
async def test_json_in_utf_8_is_taken_whatever_its_parameters(
    api: Api, operation: Operation, content_type: str
) -> None:
    content = json.dumps(operation.body).encode()
    answer = await operation(
        api, await subject(api, operation), content=content, headers={"Content-Type": content_type}
    )
    assert answer.status == operation.status


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/problem+json",
        "json",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
    ],
)
@NEED_A_BODY
async def test_any_other_content_type_is_415(
    api: Api, operation: Operation, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    content = json.dumps(operation.body).encode()
    answer = await operation(api, await subject(api, operation), content=content, headers=headers)
    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("headers", [{}, JSON, {"Content-Type": "text/plain"}], ids=str)
@NEED_A_BODY
async def test_an_empty_body_where_one_is_needed_is_400(
    api: Api, operation: Operation, headers: dict[str, str]
) -> None:
    answer = await operation(api, await subject(api, operation), content=b"", headers=headers)
    assert "empty" in errors(answer)[""]


# --- operations that need none


@pytest.mark.parametrize("content", [b"", b"{}", b" {\n} "])
@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "image/png"])
@TAKE_NO_BODY
async def test_renew_and_heartbeat_take_nothing_or_an_empty_object_of_any_content_type(
    api: Api, operation: Operation, content_type: str | None, content: bytes
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await operation(api, await subject(api, operation), content=content, headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize("content", [b'{"timeoutMinutes":30}', b"[]", b"null", b"x", b"{", b" ", b"\xff"])
@TAKE_NO_BODY
async def test_anything_else_in_the_body_of_renew_and_heartbeat_is_400(
    api: Api, operation: Operation, content: bytes
) -> None:
    assert errors(await operation(api, await subject(api, operation), content=content, headers=JSON))


@pytest.mark.parametrize(
    "content", [b"x", b"{", b"\xff" * 100, b'{"limit":1}', b" " * (BODY_MAX + 1)], ids=len
)
@IGNORE_BODIES
async def test_get_and_delete_ignore_a_body(api: Api, operation: Operation, content: bytes) -> None:
    answer = await operation(api, await subject(api, operation), content=content, headers=JSON)
    assert answer.status == operation.status


# --- size


@pytest.mark.parametrize("headers", [JSON, CHUNKED], ids=["announced", "not announced"])
@NEED_A_BODY
async def test_a_body_of_256_kib_is_taken_and_one_byte_more_is_413(
    api: Api, operation: Operation, headers: dict[str, str]
) -> None:
    session_id = await subject(api, operation)
    largest, larger = padded(operation.body, BODY_MAX), padded(operation.body, BODY_MAX + 1)
    assert (await operation(api, session_id, content=largest, headers=headers)).status == operation.status
    answer = await operation(api, session_id, content=larger, headers=headers)
    assert (answer.status, answer.code) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("way", FRAMED_WAYS, indirect=True)
@NEED_A_BODY
async def test_a_body_that_is_announced_too_large_is_413_before_any_of_it_came(
    api: Api, operation: Operation
) -> None:
    headers = JSON | {"Content-Length": str(BODY_MAX + 1)}
    answer = await operation(api, await subject(api, operation), content=b"", headers=headers)
    assert answer.status == 413


@TAKE_NO_BODY
async def test_renew_and_heartbeat_read_no_more_than_256_kib_either(api: Api, operation: Operation) -> None:
    session_id = await subject(api, operation)
    assert (await operation(api, session_id, content=padded({}, BODY_MAX + 1))).status == 413


# --- strict JSON

START, END_OF_OBJECT = b'{"agentId":"silent","userId":"user-456","metadata":{"a":', b"}}"
NOT_STRICT = {
    "not JSON": b"{",
    "a trailing comma": b'{"agentId":"silent",}',
    "a comment": b"{} // x",
    "two values": b"{}{}",
    "single quotes": b"{'agentId':'silent'}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "not UTF-8": START + b'"\xff"' + END_OF_OBJECT,
    "UTF-16": json.dumps(NEW_SESSION).encode("utf-16"),
    "NaN": START + b"NaN" + END_OF_OBJECT,
    "Infinity": START + b"Infinity" + END_OF_OBJECT,
    "minus Infinity": START + b"-Infinity" + END_OF_OBJECT,
    "overflows to infinity": START + b"1e999" + END_OF_OBJECT,
    "overflows to minus infinity": START + b"-1e999" + END_OF_OBJECT,
    "5000 digits": START + b"9" * 5000 + END_OF_OBJECT,
    "a duplicate key": b'{"agentId":"silent","agentId":"silent","userId":"u"}',
    "a duplicate key inside": START + b'{"x":1,"x":1}' + END_OF_OBJECT,
    "a lone surrogate": START + rb'"\ud800"' + END_OF_OBJECT,
    "a lone surrogate as a key": START + rb'{"\udc00":1}' + END_OF_OBJECT,
    "33 levels": START + b"[" * 31 + b"]" * 31 + END_OF_OBJECT,
    "100 000 levels": b"[" * 100_000,
    "a raw newline in a string": START + b'"a\nb"' + END_OF_OBJECT,
}


@pytest.mark.parametrize("what", NOT_STRICT)
async def test_json_is_strict(api: Api, what: str) -> None:
    answer = await CREATE(api, content=NOT_STRICT[what], headers=JSON)
    assert list(errors(answer)) == [""]


@pytest.mark.parametrize("content", [b"null", b"true", b"1", b'"{}"', b"[]", b"[{}]"])
@NEED_A_BODY
async def test_a_body_that_is_no_object_is_400(api: Api, operation: Operation, content: bytes) -> None:
    answer = await operation(api, await subject(api, operation), content=content, headers=JSON)
    assert list(errors(answer)) == [""]


UNUSUAL: tuple[tuple[bytes, object], ...] = (
    (rb'"\ud83d\ude00"', "😀"),
    ('"😀"'.encode(), "😀"),
    (rb'"\u0000"', "\0"),
    (b"1e308", 1e308),
    (b"-0.5", -0.5),
    (b"12345678901234567890123", 12345678901234567890123),
    (b'{"":{"b":[]}}', {"": {"b": []}}),
)


@pytest.mark.parametrize(("written", "read"), UNUSUAL, ids=str)
async def test_what_is_strict_json_comes_back_as_it_came(api: Api, written: bytes, read: object) -> None:
    created = await CREATE(api, content=START + written + END_OF_OBJECT, headers=JSON)
    assert created.json["metadata"] == {"a": read}
    assert (await api.get(created.json["sessionId"]))["metadata"] == {"a": read}
