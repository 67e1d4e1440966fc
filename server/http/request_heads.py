"""The head of an HTTP/1.1 request before any app sees it: whether it is one, and in its plain form. Pure.

It refuses to know connections, bodies, and what is asked for.
"""

import re

import h11

HEADERS_MAX = 100

# RFC 3986 3.2: host and port, without a user. An empty host names nobody (RFC 9110 4.2.1).
_HOST = (
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+(?::[0-9]*)?"
    rb"|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?"
)
HOST = re.compile(_HOST)
_NEVER = frozenset({b"sec-websocket-extensions"})
_ONLY_WITH_GET = _NEVER | {b"upgrade"}
_VERSIONS = {b"1.0", b"1.1"}  # prior knowledge of h2c arrives as a request in HTTP/2.0
_ABSOLUTE = re.compile(rb"https?://(%b)(?:/(.*)|(\?.*))?" % _HOST, re.IGNORECASE)


def refusal(request: h11.Request, head_bytes: int) -> int | None:
    """The status for a request that no app should see. h11 itself bounds only heads that come in pieces."""
    headers = list(request.headers)
    names = {name for name, _ in headers}
    size = len(request.target) + sum(len(name) + len(value) for name, value in headers)
    if len(headers) > HEADERS_MAX or size > head_bytes:
        return 431
    if request.http_version not in _VERSIONS or {b"content-length", b"transfer-encoding"} <= names:
        return 400
    if any(name == b"host" and not HOST.fullmatch(value) for name, value in headers):
        return 400
    known = request.target.startswith(b"/") or request.target == b"*" or _ABSOLUTE.fullmatch(request.target)
    return None if known else 400


def plain(request: h11.Request) -> h11.Request:
    """The request with its target in origin form and its host as the target says it, without an offer to compress
    WebSocket messages, and an upgrade with GET alone.
    """
    absolute = _ABSOLUTE.fullmatch(request.target)
    dropped = _NEVER if request.method == b"GET" else _ONLY_WITH_GET
    if absolute:
        dropped = dropped | {b"host"}
    headers = [header for header in request.headers if header[0] not in dropped]
    if not absolute and len(headers) == len(request.headers):
        return request
    target = request.target
    if absolute:
        host, path, query = absolute.groups(b"")
        target, headers = b"/" + path + query, [(b"host", host), *headers]
    return h11.Request(
        method=request.method, target=target, headers=headers, http_version=request.http_version
    )
