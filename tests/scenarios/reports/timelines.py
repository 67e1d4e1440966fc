"""What is found in a page of timelines, and in what its script draws."""

import json
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from vigil.scenarios.play.results import Play
from vigil.scenarios.reports.timeline import page

MINUTE_MS = 60_000


START_MS = 1_795_338_000_000


def parsed(*plays: Play) -> LexborHTMLParser:
    return LexborHTMLParser(page(plays))


def data(html: LexborHTMLParser) -> list[dict[str, Any]]:
    """What the script in the page draws, as it reads it."""
    return [json.loads(node.text()) for node in html.css('script[type="application/json"]')]


def texts(html: LexborHTMLParser, selector: str) -> list[str]:
    return [" ".join(node.text().split()) for node in html.css(selector)]


def marks(drawn: dict[str, Any], lane: int = 0) -> list[tuple[int, str, str, str]]:
    """(minute, row, kind, state) of all in a lane."""
    found = drawn["lanes"][lane]
    return [
        (mark["at"] // MINUTE_MS, found["rows"][mark["row"]], mark["kind"], mark["state"])
        for mark in found["marks"]
    ]
