"""Method and path to row, as the web framework does it."""

import pytest

from vigil.server.api.errors import MethodNotAllowed, RouteNotFound
from vigil.server.api.routes import BASE, ROUTES, Route
from vigil.server.front.routing import match


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_row_is_found_by_its_own_method_and_path(route: Route) -> None:
    named = "{sessionId}" in route.path
    assert match(route.method, route.path.replace("{sessionId}", "some-id")) == (
        route,
        "some-id" if named else "",
    )


def test_head_follows_get() -> None:
    assert match("HEAD", f"{BASE}/x")[0] is match("GET", f"{BASE}/x")[0]


def test_a_path_that_is_known_by_other_methods_says_which() -> None:
    with pytest.raises(MethodNotAllowed) as refusal:
        match("PUT", f"{BASE}/x/messages")
    assert refusal.value.allowed == "GET, HEAD, POST"


def test_health_is_no_session() -> None:
    with pytest.raises(MethodNotAllowed):
        match("DELETE", f"{BASE}/health")


@pytest.mark.parametrize(
    "path",
    ["", "/", f"{BASE}/", f"{BASE}/x/", f"{BASE}//messages", f"{BASE}/x/messages/y", "/x", f"/x{BASE}"],
)
def test_anything_else_is_not_found(path: str) -> None:
    with pytest.raises(RouteNotFound):
        match("GET", path)
