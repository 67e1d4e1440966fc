"""The same bytes get the same answers from both ways in: hot path and Hypercorn's protocols (Date aside)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measure import examples
from tests.server.fronts import SESSION_ID, answers, request

MESSAGE = b'{"content":"Good morning"}'
GOOD = [
    request("GET", "/{id}"),
    request("GET", "/{id}", None, "X-Request-Id: night-shift/7", "Accept: */*", "Connection: keep-alive"),
    request("GET", "/{id}/messages?limit=2&before=99999999999999"),
    request("POST", "/{id}/heartbeat"),
    request("POST", "/{id}/heartbeat", b""),
    request("POST", "/{id}/renew", b"{}"),
    request("POST", "/{id}/messages", MESSAGE, "Idempotency-Key: one"),
    request("POST", "/{id}/messages", b'{"content":"x","transport":"http","metadata":{"a":[1,{"b":true}]}}'),
    request("POST", "", b'{"agentId":"silent","userId":"user-456","timeoutConfig":{"timeoutMinutes":30}}'),
]
REFUSED = [
    request("GET", "/{id}", key="wrong-key-0123456789"),
    request("GET", "/{id}", key="only-write"),
    request("GET", "/00000000-0000-4000-8000-000000000000"),
    request("GET", "/health/messages"),
    request("GET", "/{id}?verbose=1"),
    request("GET", "/{id}/messages?limit=0"),
    request("POST", "/{id}/messages", b'{"content":" "}'),
    request("POST", "/{id}/messages", b'{"content":"a","content":"b"}'),
    request("POST", "/{id}/messages", b'{"content":"<script>x</script>"}'),
    request("POST", "/{id}/heartbeat", b"[]"),
    request("POST", "", b'{"agentId":"nobody","userId":"u"}'),
    request("POST", "", b""),
]
OTHERS = [
    request("GET", "/health"),
    request("GET", "?limit=5"),
    request("HEAD", "/{id}"),
    request("OPTIONS", "/{id}"),
    request("DELETE", "/{id}"),
    request("PATCH", "/{id}/timeout", b'{"timeoutMinutes":60}'),
    request("GET", "/{id}/events"),
    request("GET", "/{id}", version="1.0"),
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
FRAGMENTS = [
    *(bytes([code]) for code in b'\r\n\t\0 :;,#?%/\x7f\x80\xff{}"0aG'),
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"%2F",
    b"%00",
    b"\xc3\xa9",
    b"//",
    b"/../",
    b"HTTP/1.1",
    b"\\u0074",
    b'"transport":"sse",',
    b"9" * 30,
]
LINES = [
    b"Content-Length: 5",
    b"content-length: 0",
    b"Content-Length: 5, 5",
    b"Content-Length: +5",
    b"Content-Length: 0x5",
    b"Content-Length : 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: xchunked",
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Connection: upgrade",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Connection: X-API-KEY",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"Host: elsewhere",
    b"Host:",
    b"Authorization: Bearer only-read",
    b"X-Api-Key: only-read",
    b"X_API_KEY: only-read",
    b"X-Request-Id: \xe9",
    b"Content-Type: text/plain",
    b"Idempotency-Key: one",
    b"Origin: https://a.example",
    b" folded",
    b"NoColon",
    b": nameless",
    b"Name",
    b"Na\0me: x",
    b"Cookie: a=\x01",
]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A request, good or bad, left as it is or with a few things done to its bytes."""
    message = draw(st.sampled_from([*GOOD * 3, *REFUSED, *OTHERS]))
    for _ in range(draw(st.integers(0, 2))):
        message = draw(st.sampled_from([with_line, with_fragment, without_some]))(draw, message)
    return message


def with_line(draw: st.DrawFn, message: bytes) -> bytes:
    """One more header line at the end of some line of the head."""
    head, end, body = message.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    at = draw(st.integers(1, len(lines)))
    return b"\r\n".join([*lines[:at], draw(st.sampled_from(LINES)), *lines[at:]]) + end + body


def with_fragment(draw: st.DrawFn, message: bytes) -> bytes:
    at = draw(st.integers(0, len(message)))
    until = draw(st.sampled_from([at, at, at + 1]))
    return message[:at] + draw(st.sampled_from(FRAGMENTS)) + message[until:]


def without_some(draw: st.DrawFn, message: bytes) -> bytes:
    at = draw(st.integers(0, len(message)))
    return message[:at] + message[at + draw(st.integers(1, 20)) :]


@st.composite
def connections(draw: st.DrawFn) -> list[bytes]:
    """One to four requests on one connection, in one piece or in two."""
    sent = b"".join(draw(st.lists(messages(), min_size=1, max_size=4)))
    at = draw(st.one_of(st.just(0), st.integers(0, len(sent))))
    return [piece for piece in (sent[:at], sent[at:]) if piece]


@examples(150)
@given(st.lists(connections().filter(bool), min_size=1, max_size=2))
def test_any_bytes_get_the_same_answers_from_both_ways_in(sent: list[list[bytes]]) -> None:
    assert answers(*sent, hot=True) == answers(*sent, hot=False)


@pytest.mark.parametrize("message", [*GOOD, *REFUSED, *OTHERS], ids=lambda message: message[:60].decode())
def test_each_request_gets_the_same_answer_from_both_ways_in(message: bytes) -> None:
    both = [message, GOOD[0]]
    assert answers([b"".join(both)], both, hot=True) == answers([b"".join(both)], both, hot=False)


def test_the_requests_that_the_fuzz_begins_with_are_good() -> None:
    for (_, answer), *_ in (answers([message], hot=True) for message in GOOD):
        assert answer[9:12] in {b"200", b"201"}
    assert SESSION_ID.encode() in answers([GOOD[0]], hot=True)[0][1]
