"""Which bytes the hot path takes for a request: what two readers of HTTP could read differently is none of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import BASE
from tests.measure import examples
from tests.server.fronts import SESSION_ID, answers, request
from vigil.server.api.gateway import BODY_BYTES_MAX
from vigil.server.front.fast_request import HEAD_BYTES_MAX, NotFastPath, read

GET = request("GET", "/{id}")
SEND = request("POST", "/{id}/messages", b'{"content":"hello"}')
LINE, REST = GET.split(b"\r\n", 1)
PATH = f"{BASE}/{SESSION_ID}".encode()


def with_line(line: bytes, message: bytes = SEND) -> bytes:
    """The message with one more line at the end of its head."""
    head, end, body = message.partition(b"\r\n\r\n")
    return head + b"\r\n" + line + end + body


def with_target(target: bytes, method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n" + REST


def without(part: bytes, message: bytes = SEND) -> bytes:
    assert part in message
    return message.replace(part, b"")


HOT = {
    "get": (GET, "getSession"),
    "heartbeat without a body": (request("POST", "/{id}/heartbeat"), "heartbeat"),
    "heartbeat with an empty one": (request("POST", "/{id}/heartbeat", b""), "heartbeat"),
    "renew": (request("POST", "/{id}/renew", b"{}"), "renewSession"),
    "send": (SEND, "sendMessage"),
    "history": (request("GET", "/{id}/messages?limit=5&after=17"), "getMessages"),
    "create": (request("POST", "", b'{"agentId":"a","userId":"u"}'), "createSession"),
    "an empty query": (with_target(PATH + b"?"), "getSession"),
    "an id that is no UUID": (request("GET", "/nothing"), "getSession"),
    "a body that is not JSON": (request("POST", "/{id}/messages", b"\xff\0"), "sendMessage"),
    "keep-alive": (with_line(b"Connection: Keep-Alive"), "sendMessage"),
    "blanks around a value": (with_line(b"Accept: \t */* \t"), "sendMessage"),
    "no blank before a value": (with_line(b"Accept:*/*"), "sendMessage"),
    "an empty value": (with_line(b"Accept:"), "sendMessage"),
    "a host with a port": (GET.replace(b"localhost", b"[::1]:3000"), "getSession"),
    "talk of transport": (request("POST", "/{id}/messages", b'{"content":"\\"transport\\""}'), "sendMessage"),
}

NOT_HOT = {
    "two lengths": with_line(b"Content-Length: 19"),
    "two lengths that differ": with_line(b"content-length: 5"),
    "a list of lengths": SEND.replace(b"Length: 19", b"Length: 19, 19"),
    "a signed length": SEND.replace(b"Length: 19", b"Length: +19"),
    "a length in hexadecimal": SEND.replace(b"Length: 19", b"Length: 0x13"),
    "a length with a zero before it": SEND.replace(b"Length: 19", b"Length: 019"),
    "a length with a blank inside": SEND.replace(b"Length: 19", b"Length: 1 9"),
    "no length": SEND.replace(b"Length: 19", b"Length:"),
    "a negative length": SEND.replace(b"Length: 19", b"Length: -1"),
    "a length beyond the body's bound": SEND.replace(b"Length: 19", b"Length: %d" % (BODY_BYTES_MAX + 1)),
    "a length of thirty digits": SEND.replace(b"Length: 19", b"Length: " + b"9" * 30),
    "a body on GET": with_line(b"Content-Length: 1", GET) + b"x",
    "a body on GET that is to come": with_line(b"Content-Length: 999", GET),
    "chunks": with_line(b"Transfer-Encoding: chunked", GET),
    "chunks and a length": with_line(b"Transfer-Encoding: chunked"),
    "another coding": with_line(b"Transfer-Encoding: xchunked"),
    "the identity coding": with_line(b"Transfer-Encoding: identity"),
    "a hidden coding": with_line(b"Transfer-Encoding\t: chunked"),
    "a vertical tab before a coding": with_line(b"Transfer-Encoding: \x0bchunked"),
    "a blank before a colon": with_line(b"Accept : */*"),
    "a folded line": with_line(b" folded"),
    "a folded first line": LINE + b"\r\n folded: x\r\n" + REST,
    "a bare line feed": with_line(b"Accept: a\nTransfer-Encoding: chunked"),
    "a bare carriage return": with_line(b"Accept: a\rb"),
    "a bare line feed after the request line": LINE + b"\n" + REST,
    "a bare line feed at the end": GET[:-2] + b"\n\r\n\r\n",
    "an empty line before the request": b"\r\n" + GET,
    "a NUL in a value": with_line(b"Accept: a\0b"),
    "a NUL in a name": with_line(b"Acc\0ept: a"),
    "a control character in a value": with_line(b"Cookie: a=\x01"),
    "a delete character in a value": with_line(b"Cookie: a=\x7f"),
    "a value that is not ASCII": with_line(b"X-Request-Id: \xe9"),
    "a name that is not ASCII": with_line(b"\xe9: x"),
    "a name with a dot": with_line(b"a.b: x"),
    "a line without a colon": with_line(b"Accept"),
    "a line without a name": with_line(b": x"),
    "a name twice": with_line(b"X-API-KEY: other-key-0123456789"),
    "a name twice in another case": with_line(b"x-api-key: other-key-0123456789"),
    "no host": without(b"Host: localhost\r\n"),
    "an empty host": SEND.replace(b"localhost", b""),
    "two hosts": with_line(b"Host: elsewhere"),
    "an odd host": SEND.replace(b"localhost", b"a/b"),
    "a host with a user": SEND.replace(b"localhost", b"a@b"),
    "an end of the connection": with_line(b"Connection: close"),
    "an upgrade": with_line(b"Connection: upgrade\r\nUpgrade: websocket", GET),
    "an upgrade that nobody announces": with_line(b"Upgrade: h2c", GET),
    "a header named as hop-by-hop": with_line(b"Connection: keep-alive, Content-Length"),
    "an expectation": with_line(b"Expect: 100-continue"),
    "trailers": with_line(b"TE: trailers"),
    "HTTP/1.0": GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.2": GET.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "HTTP/0.9": b"GET " + PATH + b"\r\n\r\n",
    "http in lower case": GET.replace(b"HTTP/1.1", b"http/1.1"),
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a hello of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a method in lower case": with_target(PATH, b"get"),
    "another method": with_target(PATH, b"PUT"),
    "HEAD": with_target(PATH, b"HEAD"),
    "an absolute target": with_target(b"http://localhost" + PATH),
    "an authority": with_target(b"localhost:80", b"CONNECT"),
    "an asterisk": with_target(b"*", b"OPTIONS"),
    "a fragment": with_target(PATH + b"#top"),
    "a percent in the path": with_target(PATH.replace(b"-", b"%2d")),
    "a percent in the query": with_target(PATH + b"/messages?limit=%35"),
    "a plus in the query": with_target(PATH + b"/messages?limit=+5"),
    "a target that is not ASCII": with_target(PATH + b"\xc3\xa9"),
    "a backslash": with_target(PATH.replace(b"/", b"\\")),
    "two slashes": with_target(b"/" + PATH),
    "a dot segment": with_target(PATH + b"/./messages"),
    "a path parameter": with_target(PATH + b";v=1"),
    "a trailing slash": with_target(PATH + b"/"),
    "two blanks": with_target(b" " + PATH),
    "a tab for a blank": GET.replace(b"GET ", b"GET\t"),
    "a blank after the version": GET.replace(b"HTTP/1.1", b"HTTP/1.1 "),
    "the health of all": request("GET", "/health"),
    "the list": request("GET", "?limit=5"),
    "another row": request("DELETE", "/{id}"),
    "no row": request("GET", "/{id}/nothing"),
    "a huge head": with_line(b"Cookie: " + b"a" * HEAD_BYTES_MAX),
    "a huge target": request("GET", "/{id}/messages?limit=" + "5" * 100_000),
    "another transport": request("POST", "/{id}/messages", b'{"content":"x","transport":"sse"}'),
    "another transport, hidden": request(
        "POST", "/{id}/messages", b'{"content":"x","tr\\u0061nsport":"sse"}'
    ),
}


@pytest.mark.parametrize("what", HOT)
def test_a_plain_request_is_read_to_its_end(what: str) -> None:
    message, row = HOT[what]
    found = read(b"before" + message + GET, 6)
    assert found is not None
    assert (found.route.name, found.end) == (row, 6 + len(message))


@pytest.mark.parametrize("what", NOT_HOT)
def test_anything_else_is_left_to_others(what: str) -> None:
    with pytest.raises(NotFastPath):
        read(NOT_HOT[what] + GET, 0)


@pytest.mark.parametrize("what", NOT_HOT)
def test_what_is_left_to_others_is_answered_as_they_do_and_what_comes_before_it_too(what: str) -> None:
    sent = [SEND + NOT_HOT[what] + GET]
    assert answers(sent, hot=True) == answers(sent, hot=False)


def test_what_is_read_is_what_was_sent() -> None:
    found = read(with_line(b"Accept:  a b\t\r\nX-Odd_Name:"), 0)
    assert found is not None
    assert (found.method, found.path, found.session_id) == ("POST", PATH.decode() + "/messages", SESSION_ID)
    assert [found.header(name) for name in ("accept", "x-odd_name", "host", "x")] == [
        ("a b",),
        ("",),
        ("localhost",),
        (),
    ]


@pytest.mark.parametrize("message", [message for message, _ in HOT.values()], ids=list(HOT))
def test_the_beginning_of_a_request_waits_for_the_rest(message: bytes) -> None:
    for size in range(len(message)):
        assert read(message[:size], 0) is None


@pytest.mark.parametrize("what", ["HEAD", "a preface of HTTP/2", "a hello of TLS", "two slashes"])
def test_a_beginning_that_no_rest_makes_good_waits_for_nothing(what: str) -> None:
    with pytest.raises(NotFastPath):
        read(NOT_HOT[what][:12], 0)


def test_a_head_that_others_would_take_for_whole_waits_for_nothing() -> None:
    with pytest.raises(NotFastPath):
        read(GET.replace(b"\r\n", b"\n"), 0)


def test_a_head_without_an_end_waits_no_longer_than_heads_are() -> None:
    with pytest.raises(NotFastPath):
        read(GET[:-2] + b"X: " + b"a" * HEAD_BYTES_MAX, 0)


@examples(300)
@given(st.binary(max_size=200), st.integers(0, len(SEND)))
def test_no_bytes_are_read_as_another_request_than_they_are(noise: bytes, at: int) -> None:
    """Whatever is put into a request: it is whole, to come, or not for us; never anything else."""
    try:
        found = read(SEND[:at] + noise + SEND[at:], 0)
    except NotFastPath:
        return
    assert found is None or (found.end <= len(SEND) + len(noise) and found.route.method == "POST")
