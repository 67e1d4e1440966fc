"""The documentation as a page: whole, without any other file, and nothing in it runs that is not its own."""

import re
import shlex
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

from tests.harness import OWNER, Api, running_api
from vigil.server.api.errors import failure_of
from vigil.server.api.routes import ROUTES
from vigil.server.docs import examples, openapi
from vigil.server.docs.docs_page import page

PAGE = page(openapi.document(ROUTES))
HTML = PAGE.html.decode()


class Reader(HTMLParser):
    """Tags with their attributes, the text of each element with a class, and whether all tags are closed."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.commands: list[str] = []
        self.open: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs).get("class")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == ("pre", "command"):
            self.commands.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


READER = read(HTML)
IDS = {attributes["id"] for _, attributes in READER.tags if "id" in attributes}


def test_every_route_has_its_place_with_method_path_and_summary() -> None:
    assert {openapi.operation_id(route) for route in ROUTES} <= IDS
    for route in ROUTES:
        article = HTML.partition(f'<article id="{openapi.operation_id(route)}"')[2].partition("</article>")[0]
        assert f">{route.method}<" in article
        assert f">{route.path}<" in article
        assert f">{route.summary.replace(chr(39), '&#39;')}<" in article


def test_every_error_code_is_explained_with_an_example() -> None:
    assert {f"error-{failure_of(error).code}" for error in examples.ERRORS} <= IDS


def test_every_link_inside_the_page_leads_somewhere() -> None:
    targets = [attributes["href"] for tag, attributes in READER.tags if tag == "a"]
    assert {target.removeprefix("#") for target in targets if target and target.startswith("#")} <= IDS
    assert {target for target in targets if target and not target.startswith("#")} == {"openapi.json"}


def test_nothing_is_loaded_from_anywhere() -> None:
    sources = [attributes.get("src") for _, attributes in READER.tags if "src" in attributes]
    linked = [attributes.get("href") for tag, attributes in READER.tags if tag == "link"]
    assert (sources, linked) == ([], ["data:,"])
    assert not re.search(r"@import|url\(", HTML)


def test_its_policy_allows_its_own_style_and_script_and_nothing_else() -> None:
    policy = dict(part.split(" ", 1) for part in PAGE.policy.split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    for directive, tag in (("style-src", "style"), ("script-src", "script")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", HTML, re.DOTALL)
        assert policy[directive] == f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    assert not any(name == "style" or name.startswith("on") for _, given in READER.tags for name in given)


def test_it_follows_light_and_dark_and_the_width_of_the_screen() -> None:
    assert "(prefers-color-scheme: dark)" in HTML
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in READER.tags


def test_what_the_document_says_is_text_and_never_markup() -> None:
    document = openapi.document([ROUTES[0]._replace(description="<script>`<b>`</script>", summary="<i>")])
    html = page(document).html.decode()
    assert html.count("<script>") == 1
    assert "&lt;script&gt;<code>&lt;b&gt;</code>&lt;/script&gt;" in html
    assert "<i>" not in html


async def test_its_curl_lines_work() -> None:
    """All of them, one after the other, on one session; what ends it comes last."""
    lines = [line for line in READER.commands if line.startswith("curl")]
    assert len(lines) == len([route for route in ROUTES if not route.is_websocket])
    async with running_api() as api:
        session = await api.create(agentId="agent-123")
        sent = await api.request("POST", f"/{session['sessionId']}/messages", {"content": "Hello"})
        for line in sorted(lines, key=lambda line: "DELETE" in line):
            command = line.replace("$SESSION_ID", session["sessionId"]).replace("$TOKEN", OWNER)
            command = command.replace("$MESSAGE_ID", sent.json["id"])
            words = shlex.split(command.replace("\\\n", ""))
            assert await status_of(api, words) in (200, 201), line


async def status_of(api: Api, words: list[str]) -> int:
    """Do what curl would do with these words."""
    flags: dict[str, Any] = {"-H": [], "-X": "GET", "-d": None}
    url, rest = "", iter(words[1:])
    for word in rest:
        if word == "-H":
            flags["-H"].append(tuple(next(rest).split(": ", 1)))
        elif word in flags:
            flags[word] = next(rest)
        else:
            url = word.removeprefix("http://localhost:3000")
    body = flags["-d"].encode() if flags["-d"] else None
    answer = await api.request(flags["-X"], "/" + url, credential=None, headers=flags["-H"], content=body)
    return answer.status


async def test_the_page_is_served_without_a_key_and_with_its_policy() -> None:
    async with running_api() as api:
        answer = await api.request("GET", "//docs", credential=None)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == PAGE.policy
    assert answer.content == PAGE.html
