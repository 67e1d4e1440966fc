"""The page at `/` for a person who opens the server's address: what this is, and where to go from here.

It is no operation of the API: a program that asks for `/` gets 404 as before. It shows no key and no id.
"""

from functools import cache
from importlib.metadata import version
from typing import NamedTuple

from vigil.server.api.call import Request
from vigil.server.api.routes import BASE
from vigil.server.docs import pages
from vigil.server.docs.pages import Page


class Link(NamedTuple):
    """A place on this server. `path` is relative, so that a proxy may put the server under a path of its own."""

    path: str
    name: str
    meaning: str


LINKS = (
    Link("docs", "Documentation", "every operation, with examples and every error; needs no internet"),
    Link("openapi.json", "openapi.json", "the same as OpenAPI 3.1, for generators and other tools"),
)

PATH = "/"


def is_wanted(request: Request) -> bool:
    """Whether a browser asks for the page at the root: it names text/html, as programs do not."""
    return (
        request.path == PATH
        and request.method in ("GET", "HEAD")
        and not request.header("sec-websocket-version")
        and any(map(_wants_html, request.header("accept")))
    )


@cache
def page() -> Page:
    html = pages.render("server/docs/welcome.html", links=LINKS, base=BASE, version=version("vigil-sessions"))
    return pages.with_policy(html)


def _wants_html(accept: str) -> bool:
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        if kind == "text/html":
            return not any(word.startswith("q=") and not word[2:].strip("0.") for word in parameters)
    return False
