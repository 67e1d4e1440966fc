"""HTTP's small print (RFC 9110, 9112), byte by byte and alike on both fronts: hosts, empty lines, reasons, 100."""

import h2.events
import pytest
import trio

from tests.harness import BASE, OWNER, running_api
from tests.server.front.listening import new_session
from tests.server.fronts import SESSION_ID, answers, request
from tests.server.http2 import connect_http2
from tests.server.raw import connect, start
from tests.server.sockets import serving
from vigil.server.front.quart_app import make_app
from vigil.server.http.listener import Endpoint
from vigil.server.http.protocols import Limits

FRONTS = pytest.mark.parametrize("hot", [True, False], ids=["hot", "quart"])
GET = request("GET", "/{id}")
BEAT = request("POST", "/{id}/heartbeat", b"{}")
CREATE = request("POST", "", b'{"agentId":"silent","userId":"user-456"}')
SEND = request("POST", "/{id}/messages", b'{"content":"hello"}')


def statuses(*pieces: bytes, hot: bool) -> list[bytes]:
    """The status lines that come back to these bytes on one connection."""
    ((first, *came),) = answers(list(pieces), hot=hot)
    assert first == b""
    return [answer.partition(b"\r\n")[0] for answer in came]


# --- empty lines


@FRONTS
@pytest.mark.parametrize("empty", [b"\r\n", b"\r\n" * 2, b"\r\n" * 500], ids=len)
def test_empty_lines_before_a_request_and_after_a_body_are_skipped(hot: bool, empty: bytes) -> None:
    good = [b"HTTP/1.1 200 OK"]
    assert statuses(empty + GET, hot=hot) == good
    assert statuses(empty, GET, hot=hot) == good
    assert statuses(BEAT + empty + GET + empty + BEAT, hot=hot) == good * 3
    assert statuses(BEAT + empty, GET, hot=hot) == good * 2


@FRONTS
def test_an_empty_line_may_come_in_two_pieces(hot: bool) -> None:
    assert statuses(b"\r", b"\n", GET, b"\r", b"\n\r", b"\n" + GET, hot=hot) == [b"HTTP/1.1 200 OK"] * 2


@FRONTS
@pytest.mark.parametrize("noise", [b" \r\n", b"\r", b"\r\r\n", b"\r\n \r\n", b"x\r\n"])
def test_what_only_looks_like_an_empty_line_is_no_request(hot: bool, noise: bytes) -> None:
    assert statuses(noise + GET, hot=hot) == [b"HTTP/1.1 400 Bad Request"]


@FRONTS
def test_nothing_but_empty_lines_gets_no_answer(hot: bool) -> None:
    assert statuses(b"\r\n" * 3, hot=hot) == []


# --- hosts

BAD_HOSTS = {
    "a path and a query": b"a/?k=v",
    "a user": b"user@a",
    "a user and a password": b"user:word@a",
    "empty": b"",
    "only a port": b":80",
    "a port that is none": b"a:b",
    "two ports": b"a:1:2",
    "a blank inside": b"a b",
    "a list": b"a, b c",
    "a fragment": b"a#b",
    "a scheme": b"http://a",
    "a half encoded letter": b"a%2",
    "an open bracket": b"[::1",
    "no address in brackets": b"[x]",
    "a letter that is not ASCII": b"\xe9",
    "a backslash": b"a\\b",
    "quotes": b'"a"',
}
GOOD_HOSTS = [b"a", b"A.example:80", b"a:", b"127.0.0.1", b"[::1]:3000", b"a_b", b"%61", b"a.example."]


def with_host(host: bytes) -> bytes:
    return GET.replace(b"Host: localhost", b"Host: " + host)


@FRONTS
@pytest.mark.parametrize("name", BAD_HOSTS)
def test_a_host_that_is_none_is_400(hot: bool, name: str) -> None:
    assert statuses(with_host(BAD_HOSTS[name]), hot=hot) == [b"HTTP/1.1 400 Bad Request"]


@FRONTS
def test_no_host_and_two_hosts_are_400_and_http_1_0_needs_none(hot: bool) -> None:
    bad = [b"HTTP/1.1 400 Bad Request"]
    assert statuses(GET.replace(b"Host: localhost\r\n", b""), hot=hot) == bad
    assert statuses(with_host(b"a\r\nHost: a"), hot=hot) == bad
    old = GET.replace(b"Host: localhost\r\n", b"").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert statuses(old, hot=hot) == [b"HTTP/1.1 200 OK"]
    assert statuses(with_host(b"a/b").replace(b"HTTP/1.1", b"HTTP/1.0"), hot=hot) == bad


@FRONTS
@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_any_other_host_is_taken(hot: bool, host: bytes) -> None:
    assert statuses(with_host(host), hot=hot) == [b"HTTP/1.1 200 OK"]


@FRONTS
@pytest.mark.parametrize("target", ["http://user@a", "http://", "http://:80", "http://[", "https://a b"])
def test_an_absolute_target_has_a_host_like_any_other(hot: bool, target: str) -> None:
    message = GET.replace(b"GET ", f"GET {target}".encode())
    assert statuses(message, hot=hot) == [b"HTTP/1.1 400 Bad Request"]


# --- reasons


@FRONTS
def test_answers_carry_their_reason(hot: bool) -> None:
    assert statuses(CREATE, SEND, GET, hot=hot) == [
        b"HTTP/1.1 201 Created",
        b"HTTP/1.1 201 Created",
        b"HTTP/1.1 200 OK",
    ]
    for message, line in (
        (request("GET", "/{id}", key="wrong-key-0123456789"), b"HTTP/1.1 401 Unauthorized"),
        (request("GET", "/nothing"), b"HTTP/1.1 404 Not Found"),
        (request("BREW", "/{id}"), b"HTTP/1.1 405 Method Not Allowed"),
        (request("POST", "/{id}/heartbeat", b"[]"), b"HTTP/1.1 400 Bad Request"),
    ):
        assert statuses(message, hot=hot) == [line]


@FRONTS
def test_what_the_parser_refuses_has_a_reason_too(hot: bool) -> None:
    huge = GET.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")
    assert statuses(b"nonsense\r\n\r\n", hot=hot) == [b"HTTP/1.1 400 Bad Request"]
    assert statuses(huge, hot=hot) == [b"HTTP/1.1 431 Request Header Fields Too Large"]
    chunks = BEAT.replace(b"Content-Length: 2", b"Transfer-Encoding: gzip")
    assert statuses(chunks, hot=hot)[0] == b"HTTP/1.1 501 Not Implemented"


# --- 100 Continue

EXPECT = "Expect: 100-continue"
GO_ON = b"HTTP/1.1 100 Continue"


def expecting(path: str, size: int, *lines: str, key: str = OWNER) -> bytes:
    """The head of a request that waits before its body."""
    sized = ("Content-Type: application/json", f"Content-Length: {size}")
    return request("POST", path, None, *sized, EXPECT, *lines, key=key)


@FRONTS
def test_a_client_that_waits_is_told_to_go_on_when_its_body_is_wanted(hot: bool) -> None:
    body = b'{"content":"hello"}'
    head = expecting("/{id}/messages", len(body))
    assert statuses(head, body, hot=hot) == [GO_ON, b"HTTP/1.1 201 Created"]


@FRONTS
def test_a_client_that_did_not_wait_is_not_told(hot: bool) -> None:
    body = b'{"content":"hello"}'
    assert statuses(expecting("/{id}/messages", len(body)) + body, hot=hot) == [b"HTTP/1.1 201 Created"]


REFUSED = {
    "no credentials": (expecting("/{id}/messages", 9, key="wrong-key-0123456789"), b"401 Unauthorized"),
    "no scope": (expecting("/{id}/messages", 9, key="only-read"), b"403 Forbidden"),
    "no session": (expecting("/nothing/messages", 9), b"404 Not Found"),
    "no path": (expecting("/{id}/nothing", 9), b"404 Not Found"),
    "no method": (expecting("/{id}", 9), b"405 Method Not Allowed"),
    "too much": (expecting("/{id}/messages", 999_999), b"413 Request Entity Too Large"),
}


@FRONTS
@pytest.mark.parametrize("why", REFUSED)
def test_a_final_status_that_is_known_comes_instead_of_100(hot: bool, why: str) -> None:
    head, status = REFUSED[why]
    ((_, answer),) = answers([head], hot=hot)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in answer


# --- methods and WebSockets

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@FRONTS
def test_get_in_lower_case_opens_no_websocket(hot: bool) -> None:
    message = request("get", "/{id}/events", None, *UPGRADE)
    assert statuses(message, hot=hot) == [b"HTTP/1.1 405 Method Not Allowed"]


@FRONTS
def test_a_websocket_is_opened_with_a_reason_by_an_id_in_any_case(hot: bool) -> None:
    message = request("GET", f"/{SESSION_ID.upper()}/events", None, *UPGRADE)
    assert statuses(message, hot=hot) == [b"HTTP/1.1 101 Switching Protocols"]


@FRONTS
@pytest.mark.parametrize(
    "target",
    [f"/{BASE}/{SESSION_ID}/events", f"{BASE}//{SESSION_ID}/events", f"{BASE}/{SESSION_ID}%2fevents"],
)
def test_a_websockets_path_is_taken_as_it_stands(hot: bool, target: str) -> None:
    message = request("GET", "", None, *UPGRADE).replace(BASE.encode(), target.encode(), 1)
    assert statuses(message, hot=hot) == [b"HTTP/1.1 404 Not Found"]


OWN_PAGES = [
    ("chat.example.com", "http://chat.example.com"),
    ("chat.example.com", "https://chat.example.com"),
    ("chat.example.com:80", "http://chat.example.com"),
    ("chat.example.com:443", "https://chat.example.com"),
    ("chat.example.com:", "https://chat.example.com"),
    ("Chat.Example.COM", "http://chat.example.com"),
    ("chat.example.com", "HTTP://CHAT.example.com:80"),
    ("[::1]:80", "http://[::1]"),
    ("chat.example.com:8080", "http://chat.example.com:8080"),
]
OTHER_PAGES = [
    ("chat.example.com:80", "https://chat.example.com"),
    ("chat.example.com:443", "http://chat.example.com"),
    ("chat.example.com:8080", "http://chat.example.com"),
    ("chat.example.com", "http://chat.example.com:8080"),
    ("chat.example.com", "http://chat.example.com."),
    ("chat.example.com", "http://example.com"),
    ("chat.example.com", "null"),
    ("chat.example.com", "http://chat.example.com/"),
    ("chat.example.com", "http://u@chat.example.com"),
]


@FRONTS
@pytest.mark.parametrize(
    ("host", "origin", "is_own"),
    [
        *((host, origin, True) for host, origin in OWN_PAGES),
        *((host, origin, False) for host, origin in OTHER_PAGES),
    ],
)
def test_a_page_is_the_servers_own_by_its_origin(hot: bool, host: str, origin: str, is_own: bool) -> None:
    message = request("GET", "/{id}/events", None, f"Origin: {origin}", *UPGRADE)
    sent = message.replace(b"Host: localhost", f"Host: {host}".encode())
    line = b"HTTP/1.1 101 Switching Protocols" if is_own else b"HTTP/1.1 403 Forbidden"
    assert statuses(sent, hot=hot) == [line]


def test_the_host_of_an_absolute_target_counts_and_not_the_header() -> None:
    """RFC 9112 3.2.2."""
    message = request("GET", "/{id}/events", None, "Origin: http://chat.example.com", *UPGRADE)
    absolute = message.replace(b"GET /", b"GET http://chat.example.com/")
    assert statuses(absolute, hot=True) == [b"HTTP/1.1 101 Switching Protocols"]
    elsewhere = message.replace(b"GET /", b"GET http://elsewhere.example/")
    elsewhere = elsewhere.replace(b"Host: localhost", b"Host: chat.example.com")
    assert statuses(elsewhere, hot=True) == [b"HTTP/1.1 403 Forbidden"]


async def test_a_listed_origin_may_be_written_in_any_way() -> None:
    async with running_api(allowed_origins=frozenset({"https://chat.example.com"})) as api:
        for origin in ("https://chat.example.com", "HTTPS://Chat.example.com:443"):
            answer = await api.request("GET", "", headers={"Origin": origin})
            assert answer.headers["Access-Control-Allow-Origin"] == origin


# --- HTTP/2


async def test_http2_takes_paths_methods_and_ids_as_they_stand(
    nursery: trio.Nursery, secure: Endpoint
) -> None:
    async with running_api() as api:
        session = await api.create()
        server = await start(nursery, make_app(api.site), endpoint=secure)
        token = session["sessionToken"]
        async with connect_http2(server, secure) as http2:

            async def status(method: str, path: str) -> str:
                number = http2.h2.get_next_available_stream_id()
                named = {":method": method, ":path": path, ":scheme": "https", ":authority": "a:443"}
                named["authorization"] = f"Bearer {token}"
                http2.h2.send_headers(number, list(named.items()), end_stream=True)
                await http2.flush()
                came = await http2.until(h2.events.ResponseReceived, number)
                return str(dict(came.headers)[":status"])

            there = f"{BASE}/{session['sessionId']}"
            assert await status("GET", there) == "200"
            assert await status("GET", f"{BASE}/{session['sessionId'].upper()}") == "200"
            assert await status("get", there) == "405"
            assert await status("GET", f"/{there}") == "404"
            assert await status("GET", there.replace("/messaging", "/%6dessaging")) == "404"
            assert await status("GET", f"{there}%2fmessages") == "404"
        server.shutdown.set()


async def test_http2_says_100_only_when_the_body_is_wanted(nursery: trio.Nursery, secure: Endpoint) -> None:
    async with running_api() as api:
        session = await api.create()
        server = await start(nursery, make_app(api.site), endpoint=secure)
        path = f"{BASE}/{session['sessionId']}/heartbeat"
        async with connect_http2(server, secure) as http2:
            for key, first in (
                (OWNER, h2.events.InformationalResponseReceived),
                ("wrong-key-0123456789", None),
            ):
                number = http2.h2.get_next_available_stream_id()
                named = {":method": "POST", ":path": path, ":scheme": "https", ":authority": "a"}
                named |= {"expect": "100-continue", "authorization": f"Bearer {key}"}
                http2.h2.send_headers(number, list(named.items()))
                await http2.flush()
                if first is not None:
                    await http2.until(first, number)
                    http2.h2.send_data(number, b"{}", end_stream=True)
                    await http2.flush()
                came = await http2.until(h2.events.ResponseReceived, number)
                assert dict(came.headers)[":status"] == ("200" if first else "401")
                assert not [e for e in http2.events if isinstance(e, h2.events.InformationalResponseReceived)]
        server.shutdown.set()


@pytest.mark.parametrize("host", ["user@a", "", "a/b"])
@pytest.mark.parametrize("end", [True, False])
async def test_an_http2_authority_that_is_none_costs_its_stream_alone(
    nursery: trio.Nursery, secure: Endpoint, host: str, end: bool
) -> None:
    async with running_api() as api:
        server = await start(nursery, make_app(api.site), endpoint=secure)
        async with connect_http2(server, secure) as http2:
            for authority, status in ((host, "400"), ("a", "200"), (host, "400")):
                number = await http2.ask("/livez", end=end or authority == "a", authority=authority)
                came = await http2.until(h2.events.ResponseReceived, number)
                assert dict(came.headers)[":status"] == status
                await http2.until(h2.events.StreamEnded, number)
                if not end and status == "400":
                    await http2.until(h2.events.StreamReset, number)
        server.shutdown.set()


async def test_an_idle_connection_that_sent_an_empty_line_is_as_idle_as_any(nursery: trio.Nursery) -> None:
    async with serving(Limits(head_s=0.2)) as served:
        session_id = await new_session(served)
        async with connect(served.running) as client:
            head = f"GET {BASE}/{session_id} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {OWNER}\r\n\r\n".encode()
            assert (await client.ask(head + b"\r\n")).status == 200
            await trio.sleep(0.5)
            assert (await client.ask(head)).status == 200
