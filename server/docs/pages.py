"""Pages in one file: a template, with its styles and its script inside. It knows no contents.

All pages look alike: those of the server extend `page.html`, those of reports in the rooms to the right extend
`scenarios/reports/report.html`, which extends it too. Templates are named by their path from the folder of the rooms.
Texts come from scripts and servers, so everything is escaped, and what UTF-8 cannot carry becomes a question mark.
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
    """A page that a server shows, with a policy that allows what stands in it and nothing else."""

    html: bytes
    policy: str  # its Content-Security-Policy


def render(template: str, **values: Any) -> str:
    """The page as text that can be written in UTF-8. `template` is a path such as `server/docs/welcome.html`."""
    html = _environment().get_template(template).render(**values)
    return html.encode("utf-8", "replace").decode()


def with_policy(html: str) -> Page:
    own = {name: _inline_hash(html, tag) for name, tag in (("style-src", "style"), ("script-src", "script"))}
    allowed = {
        "default-src": "'none'",
        "img-src": "data:",
        **own,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    policy = "; ".join(f"{name} {source}" for name, source in allowed.items()) + "; frame-ancestors 'none'"
    return Page(html.encode(), policy)


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
        loader=FileSystemLoader(Path(__file__).parents[2]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _with_code, "paragraphs": _paragraphs}
    return environment
