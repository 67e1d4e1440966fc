"""Pages that the server shows to people: one file each, with a policy that allows what stands in it and nothing else.

All look alike: `page.css` and `page.js` are included in each. It knows no contents.
"""

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape


class Page(NamedTuple):
    html: bytes
    policy: str  # its Content-Security-Policy


def render(template: str, **values: Any) -> Page:
    """A page from a template that stands beside this file."""
    html = _environment().get_template(template).render(**values)
    return Page(html.encode(), _policy(html))


def _policy(html: str) -> str:
    own = {name: _inline_hash(html, tag) for name, tag in (("style-src", "style"), ("script-src", "script"))}
    allowed = {
        "default-src": "'none'",
        "img-src": "data:",
        **own,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {source}" for name, source in allowed.items()) + "; frame-ancestors 'none'"


def _inline_hash(html: str, tag: str) -> str:
    text = html.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _with_code(text: str) -> Markup:
    """`this` in backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped before


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n")]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _with_code, "paragraphs": _paragraphs}
    return environment
