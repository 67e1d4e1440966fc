"""Pages in one file: a template, with its styles and its script inside. All look alike. It knows no contents.

Texts come from scripts and servers, so everything is escaped, and what UTF-8 cannot carry becomes a question mark.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, **values: Any) -> str:
    """The page as text that can be written in UTF-8. What `template` includes stands beside it or beside this."""
    html = _environment(template.parent).get_template(template.name).render(**values)
    return html.encode("utf-8", "replace").decode()


@cache
def _environment(folder: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
