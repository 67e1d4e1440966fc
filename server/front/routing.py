"""Which row of the table a request is for, by method and path: for every way in but the hot path's own pattern.

A path is taken as it stands on the wire (spec section 1): nothing is decoded, merged or completed.
"""

import re
from collections.abc import Iterable, Mapping

from vigil.server.api.call import canonical
from vigil.server.api.errors import MethodNotAllowed, RouteNotFound
from vigil.server.api.routes import BASE, ROUTES, Route

Methods = Mapping[str, Route]


def match(method: str, path: str, root_path: str = "") -> tuple[Route, str]:
    """The row, and the session's id in `path` ("" when it names none). `path` is without its query.

    HEAD finds GET's row. Raises RouteNotFound, or MethodNotAllowed when only other methods are known there.
    """
    inside = below(root_path, path)
    if inside is None or _ENCODED_SLASH.search(inside):
        raise RouteNotFound(path)
    methods, session_id = (_LITERAL[inside], "") if inside in _LITERAL else _for_session(inside)
    if methods is None:
        raise RouteNotFound(path)
    route = methods.get("GET" if method == "HEAD" else method)
    if route is None:
        raise MethodNotAllowed(method, tuple(methods))
    return route, session_id


def below(root_path: str, path: str) -> str | None:
    """What `path` has below the root path, which is taken off once; None for a path that is not below it."""
    if not root_path:
        return path
    inside = path.removeprefix(root_path)
    return inside if inside.startswith("/") and inside != path else None


def _for_session(path: str) -> tuple[Methods | None, str]:
    session_id, slash, rest = path[len(_PREFIX) :].partition("/")
    methods = _BELOW_SESSION.get(_MESSAGE_ID.sub("/messages/{messageId}/", slash + rest))
    if not session_id or not path.startswith(_PREFIX):
        return None, ""
    return methods, canonical(session_id)


def _by_path(routes: Iterable[Route], prefix: str) -> dict[str, dict[str, Route]]:
    """Rows by what their path has after `prefix`; HEAD stands beside each GET, for the list of what is allowed."""
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        methods = found.setdefault(route.path.removeprefix(prefix), {})
        methods[route.method] = route
        if route.method == "GET":
            methods["HEAD"] = route
    return found


_MESSAGE_ID = re.compile("^/messages/[^/]+/")
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)
_PREFIX = f"{BASE}/"
_SESSION_PREFIX = f"{BASE}/{{sessionId}}"
_LITERAL = _by_path((route for route in ROUTES if "{" not in route.path), "")
_BELOW_SESSION = _by_path((route for route in ROUTES if "{" in route.path), _SESSION_PREFIX)
