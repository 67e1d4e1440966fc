"""The root, as a person's browser and as a program sees it."""

import json
import re

import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.harness import Answer, Api
from vigil.server.api.routes import ROUTES
from vigil.server.docs.openapi import document
from vigil.server.docs.welcome import LINKS

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


async def root(api: Api, accept: str, method: str = "GET") -> Answer:
    return await api.request(method, "//", credential=None, headers={"Accept": accept})


async def test_a_browser_gets_a_page_that_says_what_this_is_and_where_to_go(api: Api) -> None:
    answer = await root(api, BROWSER)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (answer.headers["Cache-Control"], "X-Request-Id" in answer.headers) == ("no-store", True)
    page = LexborHTMLParser(answer.content.decode())
    shown = " ".join(page.body.text().split()) if page.body else ""
    assert "This is a Sessions API server" in shown
    assert "/api/messaging/sessions" in shown
    assert [link.attributes["href"] for link in page.css(".links a")] == [link.path for link in LINKS]
    for link in LINKS:
        assert (await api.request("GET", f"//{link.path}", credential=None)).status == 200
    assert json.loads(re.findall(r"-d '(.*?)'", shown)[0]) == {"agentId": "agent-123", "userId": "user-456"}


async def test_the_page_shows_no_key_and_loads_nothing(api: Api) -> None:
    html = (await root(api, BROWSER)).content.decode()
    assert "vigil_" not in html
    assert 'Bearer $TOKEN"' in html.replace("&#34;", '"')
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|docs|openapi)""", html)


async def test_its_policy_is_that_of_the_documentation_but_for_the_hashes(api: Api) -> None:
    docs = await api.request("GET", "//docs", credential=None)
    policies = [
        (await root(api, BROWSER)).headers["Content-Security-Policy"],
        docs.headers["Content-Security-Policy"],
    ]
    assert policies[0] != policies[1]
    assert len({re.sub(r"sha256-[^']*", "", policy) for policy in policies}) == 1


async def test_head_has_the_pages_headers(api: Api) -> None:
    got, head = await root(api, BROWSER), await root(api, BROWSER, "HEAD")
    assert head.status == 200
    for name in ("Content-Type", "Content-Security-Policy", "Cache-Control"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/json", "text/*", "text/html;q=0", "text/html; q=0.0, */*", "", "x/text/html"],
)
async def test_a_program_hears_404_as_json(api: Api, accept: str) -> None:
    answer = await root(api, accept)
    assert (answer.status, answer.code) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "accept", ["TEXT/HTML", "application/json, text/html;q=0.5", "text/html;charset=utf-8"]
)
async def test_whoever_names_html_gets_the_page(api: Api, accept: str) -> None:
    assert (await root(api, accept)).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_hear_404_whatever_they_accept(api: Api, method: str) -> None:
    assert (await root(api, BROWSER, method)).status == 404


@pytest.mark.parametrize("path", ["/index.html", "/x", "/docs/"])
async def test_no_other_path_has_a_page_where_there_was_none(api: Api, path: str) -> None:
    answer = await api.request("GET", f"/{path}", credential=None, headers={"Accept": BROWSER})
    assert (answer.status, answer.code) == (404, "NOT_FOUND")


def test_the_page_is_no_operation_of_the_api() -> None:
    assert "/" not in document(ROUTES)["paths"]
