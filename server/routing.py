"""Which row of the table a request is for, by method and path. For ways in that have no router of their own."""

from collections.abc import Iterable, Mapping

from server.errors import MethodNotAllowed, RouteNotFound
from server.routes import BASE, ROUTES, Route

Methods = Mapping[str, Route]


def match(method: str, path: str) -> tuple[Route, str]:
    """The row, and the session's id in `path` ("" when it names none). `path` is percent-decoded, without a query.

    HEAD finds GET's row. Raises RouteNotFound, or MethodNotAllowed when only other methods are known there.
    """
    methods, session_id = (_LITERAL[path], "") if path in _LITERAL else _for_session(path)
    route = methods.get("GET" if method == "HEAD" else method)
    if route is None:
        raise MethodNotAllowed(method, tuple(methods))
    return route, session_id


def _for_session(path: str) -> tuple[Methods, str]:
    session_id, slash, rest = path[len(_PREFIX) :].partition("/")
    methods = _BELOW_SESSION.get(slash + rest)
    if methods is None or not session_id or not path.startswith(_PREFIX):
        raise RouteNotFound(path)
    return methods, session_id


def _by_path(routes: Iterable[Route], prefix: str) -> dict[str, dict[str, Route]]:
    """Rows by what their path has after `prefix`; HEAD stands beside each GET, for the list of what is allowed."""
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        methods = found.setdefault(route.path.removeprefix(prefix), {})
        methods[route.method] = route
        if route.method == "GET":
            methods["HEAD"] = route
    return found


_PREFIX = f"{BASE}/"
_SESSION_PREFIX = f"{BASE}/{{sessionId}}"
_LITERAL = _by_path((route for route in ROUTES if "{" not in route.path), "")
_BELOW_SESSION = _by_path((route for route in ROUTES if "{" in route.path), _SESSION_PREFIX)
