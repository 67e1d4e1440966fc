"""The OpenAPI document as one page for people."""

from typing import Any, NamedTuple


class Page(NamedTuple):
    html: bytes
    policy: str  # its Content-Security-Policy


def page(document: dict[str, Any]) -> Page:
    return Page(document["info"]["title"].encode(), "default-src 'none'")
