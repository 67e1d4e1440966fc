"""Bytes to a value, or a clear no (spec section 2, last rule)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.server.input.strict_json import MAX_DEPTH, BadJson, parse, wrong_encoding, wrong_type

GOOD = [
    (b"{}", {}),
    (b' \r\n\t{"a": [1, 2.5, "x", true, false, null]} \n', {"a": [1, 2.5, "x", True, False, None]}),
    (b"5.0", 5.0),
    (b"null", None),
    (b"-0", 0),
    (b"123456789012345678901234567890", 123456789012345678901234567890),
    (b"1e308", 1e308),
    (b"1e-999", 0.0),
    (rb'"\u0000 \ud83d\ude00"', "\0 \U0001f600"),
    ('"é \U0001f600 \u2028"'.encode(), "é \U0001f600 \u2028"),
    (b'{"a": {"b": 1}, "c": {"b": 1}}', {"a": {"b": 1}, "c": {"b": 1}}),
    (b"9" * 4300, int("9" * 4300)),
]

BAD = [
    (b"", "empty"),
    (b" \n", "not valid JSON"),
    (b"{", "not valid JSON"),
    (b"{'a': 1}", "not valid JSON"),
    (b'{"a": 1,}', "trailing comma"),
    (b"{} {}", "trailing characters"),
    (b"{}\x00", "trailing characters"),
    (b"[1] // comment", "trailing characters"),
    (b"01", "not valid JSON"),
    (b"+1", "not valid JSON"),
    (b".5", "not valid JSON"),
    (b'"line\nbreak"', "control character"),
    (b"NaN", "not valid JSON"),
    (b'{"a": [Infinity]}', "not valid JSON"),
    (b"-Infinity", "not valid JSON"),
    (b"1e999", "too large"),
    (b'{"a": {"b": [0, -1e999]}}', "too large"),
    (b"1" * 400 + b".0", "too large"),
    (b"9" * 4301, "out of range"),
    (b'{"a": 1, "a": 1}', "duplicate key"),
    (rb'{"a": 1, "\u0061": 2}', "duplicate key"),
    (b'{"x": [{"a": 1, "a": 2}]}', "duplicate key"),
    (rb'"\ud800"', "not valid JSON"),
    (rb'"\ude00\ud83d"', "not valid JSON"),
    (rb'{"\ud800": 1}', "not valid JSON"),
    (b'"\xed\xa0\x80"', "not valid JSON"),
    (b'"\xff"', "not valid JSON"),
    (b"\xef\xbb\xbf{}", "not valid JSON"),
    ("{}".encode("utf-16"), "not valid JSON"),
    ("{}".encode("utf-32-le"), "not valid JSON"),
    (b"[" * 33 + b"]" * 33, "deeper than 32"),
    (b"[" * 100_000, "not valid JSON"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not valid JSON"),
]


@pytest.mark.parametrize(("body", "value"), GOOD)
def test_json_as_the_standard_has_it_is_read(body: bytes, value: object) -> None:
    assert parse(body) == value


@pytest.mark.parametrize(("body", "why"), BAD, ids=lambda part: repr(part)[:30])
def test_what_other_parsers_let_pass_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(BadJson, match=why):
        parse(body)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_32nd_level_is_the_last(opening: bytes, closing: bytes) -> None:
    parse(opening * (MAX_DEPTH - 1) + b"{}" + closing * (MAX_DEPTH - 1))
    parse(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH)
    with pytest.raises(BadJson, match="deeper"):
        parse(opening * MAX_DEPTH + b"{}" + closing * MAX_DEPTH)


def test_an_infinity_on_the_last_level_is_still_seen() -> None:
    with pytest.raises(BadJson, match="too large"):
        parse(b"[" * MAX_DEPTH + b"1e999" + b"]" * MAX_DEPTH)


def test_the_reason_never_repeats_the_body_at_length() -> None:
    key = b"k" * 100_000
    with pytest.raises(BadJson) as refused:
        parse(b'{"%b": 1, "%b": 2}' % (key, key))
    assert len(str(refused.value)) <= 200


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_values, st.booleans())
def test_whatever_json_can_say_comes_back_as_it_was(value: object, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


def test_the_widest_body_that_fits_is_walked_to_its_end() -> None:
    widest = b"[" + b",".join([b"[]"] * 87_000) + b",1e999]"
    with pytest.raises(BadJson):
        parse(widest)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        " application/json ",
        "application/json;charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json ; Charset=Utf8",
        "application/json; profile=x; charset=utf-8; q=1",
        'application/json; x="; charset=latin1"',
        "application/json;",
    ],
)
def test_json_in_utf_8_is_taken(content_type: str) -> None:
    assert wrong_type(content_type) is None


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application",
        "text/json",
        "text/plain",
        "application/jsonp",
        "application/json5",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/json, text/plain",
        "application/json; charset=latin1",
        "application/json; charset='utf-16'",
        'application/json; charset="utf-16"',
        "application/json; charset=",
        "application/json;charset=us-ascii",
        "application/json\r\ncharset=utf-8",
    ],
)
def test_any_other_type_is_said_to_be_wrong(content_type: str) -> None:
    assert wrong_type(content_type)


def test_what_is_wrong_with_a_type_is_said_and_never_at_length() -> None:
    assert wrong_type("") == "it has no Content-Type"
    assert wrong_type("text/plain") == "its Content-Type is 'text/plain'"
    assert wrong_type("application/json; charset=latin1") == "its charset is 'latin1'"
    assert len(wrong_type("x" * 10_000) or "") < 100


@pytest.mark.parametrize("encodings", ["", " ", "identity", "Identity", "identity, identity", ","])
def test_a_body_that_is_not_encoded_is_taken(encodings: str) -> None:
    assert wrong_encoding(encodings) is None


@pytest.mark.parametrize(
    ("encodings", "wrong"),
    [("gzip", "gzip"), ("identity, BR", "BR"), ("deflate,gzip", "deflate"), ("x", "x")],
)
def test_any_other_encoding_is_said_to_be_wrong(encodings: str, wrong: str) -> None:
    assert wrong_encoding(encodings) == f"its Content-Encoding is {wrong!r}"
