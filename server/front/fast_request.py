"""Bytes to a request of the hot path, or the decision that they are none. Pure.

What is accepted is narrow, so that no two readers of HTTP can read it differently: a request line and headers that
patterns know to the last byte, each header once, no body but one of announced length. llhttp reads the same headers
and must agree. Everything else, good or bad, is `NotFastPath`: somebody else's to answer or refuse.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from vigil.server.api.call import canonical
from vigil.server.api.gateway import BODY_BYTES_MAX
from vigil.server.api.routes import BASE, ROUTES, Route

HEAD_BYTES_MAX = 4 * 1024

Headers = Mapping[str, tuple[str, ...]]  # by name in lower case


class NotFastPath(Exception):
    """These bytes, or those to come, are not a request that the hot path serves."""


class HotRequest:
    """A whole request, as the gateway wants it. `end` is where the next one begins."""

    __slots__ = ("_headers", "content", "end", "method", "path", "query_string", "route", "session_id")

    def __init__(
        self, route: Route, target: tuple[str, str, bytes], headers: Headers, body: bytes, end: int
    ) -> None:
        self.route = route
        self.method = route.method
        self.path, self.session_id, self.query_string = target
        self.end = end
        self._headers = headers
        self.content = body

    def header(self, name: str) -> Sequence[str]:
        return self._headers.get(name, ())

    async def body(self, _bytes_max: int) -> bytes:
        """What was announced, which is never more than the gateway takes."""
        return self.content


class RequestLines(NamedTuple):
    """The request lines that are taken: whole ones, and how they begin."""

    whole: re.Pattern[bytes]
    beginnings: tuple[bytes, ...]


def request_lines(root_path: str) -> RequestLines:
    """Those of a site whose every path begins with `root_path`."""
    base = (root_path + BASE).encode()
    pattern = (
        rb"(GET|POST) (%b(?:/([A-Za-z0-9-]{1,64})(/[a-z]+)?)?)(?:\?([A-Za-z0-9=&._-]{0,256}))? HTTP/1\.1\r\n"
    )
    return RequestLines(re.compile(pattern % re.escape(base)), (b"GET " + base, b"POST " + base))


def read(received: bytes, at: int, lines: RequestLines | None = None) -> HotRequest | None:
    """The request that begins at `at`; None when it is not whole yet. Without a root path unless `lines` say so.

    Raises NotFastPath.
    """
    lines = lines or _AT_THE_ROOT
    head_end = received.find(b"\r\n\r\n", at) + 4
    if head_end < at + 4:
        _check_beginning(received, at, lines.beginnings)
        return None
    line = lines.whole.match(received, at, head_end)
    if line is None:
        raise NotFastPath
    method, path, session_id, below, query = line.groups(b"")
    route = _ROWS.get((method, below if session_id else None))
    if route is None or session_id == b"health":
        raise NotFastPath
    headers, body_bytes = _headers(received[line.end() : head_end])
    if body_bytes and route.method == "GET":
        raise NotFastPath
    end = head_end + body_bytes
    if end > len(received):
        return None
    body = received[head_end:end]
    if route is _SEND and _NAMES_A_TRANSPORT.search(body):
        raise NotFastPath
    return HotRequest(route, (path.decode(), canonical(session_id.decode()), query), headers, body, end)


_BY_NAME = {route.name: route for route in ROUTES}
_SEND = _BY_NAME["sendMessage"]
GET_SESSION = _BY_NAME["getSession"]

# by method and what the path has below the session; None where it names no session
_ROWS = {
    (b"GET", b""): GET_SESSION,
    (b"GET", b"/messages"): _BY_NAME["getMessages"],
    (b"POST", b"/messages"): _SEND,
    (b"POST", b"/heartbeat"): _BY_NAME["heartbeat"],
    (b"POST", b"/renew"): _BY_NAME["renewSession"],
    (b"POST", None): _BY_NAME["createSession"],
}
_AT_THE_ROOT = request_lines("")
_FIELDS = re.compile(rb"(?:[A-Za-z0-9_-]+:[\t -~]*\r\n)+\r\n")
_HOST = re.compile(rb"[A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,5}")
# These change how a message or its connection is read, or might in another reader's eyes.
_ODD = frozenset(
    b"transfer-encoding te trailer expect upgrade http2-settings proxy-connection keep-alive".split()
)
# As a key of JSON it is written like this, unless one of its letters is escaped.
_NAMES_A_TRANSPORT = re.compile(rb'"transport"|\\u00[67]')


def _check_beginning(received: bytes, at: int, beginnings: tuple[bytes, ...]) -> None:
    """The rest of the head is to come. Can it become one of ours?"""
    begun = received[at : at + HEAD_BYTES_MAX]
    is_ours = begun.startswith(beginnings) or any(known.startswith(begun) for known in beginnings)
    # Others end a line, and a head, with a bare line feed.
    if not is_ours or len(begun) == HEAD_BYTES_MAX or begun.count(b"\n") != begun.count(b"\r\n"):
        raise NotFastPath


@lru_cache(maxsize=1024)
def _headers(block: bytes) -> tuple[Headers, int]:
    """The headers, and how long the body is that they announce. Most clients send the same ones again and again.

    Raises NotFastPath.
    """
    if len(block) > HEAD_BYTES_MAX or _FIELDS.fullmatch(block) is None:
        raise NotFastPath
    message = _Message(block)
    fields = {name.lower(): value.strip(b" \t") for name, value in message.given.items()}
    body_bytes = _announced(fields)
    is_plain = (
        fields.keys().isdisjoint(_ODD) and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    )
    each_once = len(fields) == block.count(b"\r\n") - 1
    if not is_plain or not each_once or message.is_whole != (body_bytes == 0):
        raise NotFastPath
    return {name.decode(): (value.decode(),) for name, value in fields.items()}, body_bytes


def _announced(fields: Mapping[bytes, bytes]) -> int:
    """The bytes of the body."""
    length = fields.get(b"content-length", b"0")
    if _LENGTH.fullmatch(length) is None or int(length) > BODY_BYTES_MAX:
        raise NotFastPath
    if _HOST.fullmatch(fields.get(b"host", b"")) is None:
        raise NotFastPath
    return int(length)


class _Message:
    """A block of headers as llhttp reads it: what is given, and whether it is whole. Raises NotFastPath."""

    def __init__(self, block: bytes) -> None:
        self.given: dict[bytes, bytes] = {}
        self.is_whole = False
        self.on_header = self.given.__setitem__
        try:
            HttpRequestParser(self).feed_data(b"POST / HTTP/1.1\r\n" + block)
        except (HttpParserError, HttpParserUpgrade):
            raise NotFastPath from None

    def on_message_complete(self) -> None:
        self.is_whole = True
