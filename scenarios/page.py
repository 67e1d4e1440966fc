"""Pages in one file: a template beside this module, with its styles and its script inside. It knows no contents.

Texts come from scripts and servers, so everything is escaped, and what UTF-8 cannot carry becomes a question mark.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """The page as text that can be written in UTF-8."""
    html = _ENVIRONMENT.get_template(template).render(**values)
    return html.encode("utf-8", "replace").decode()
