"""docs/operate.md knows every 503 and every exit code's meaning that the code has."""

import ast
import re

from tests import ROOT
from vigil.actors.core.errors import Overloaded, StoreUnavailable
from vigil.server.api.errors import FAILURES, NotReady
from vigil.server.cli.ends import INTERRUPTED, READER_GONE, WRONG

PAGE = (ROOT / "docs" / "operate.md").read_text()


def overloads() -> set[str]:
    """What is fixed in the text of every `Overloaded` that is raised somewhere."""
    files = [file for room in ("actors", "server") for file in (ROOT / room).rglob("*.py")]
    calls = [
        node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
    ]
    texts = [
        call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Overloaded"
    ]
    return {_fixed(text) for text in texts}


def _fixed(text: ast.expr) -> str:
    """The longest part without a value in it."""
    parts = [text] if isinstance(text, ast.Constant) else getattr(text, "values", [])
    fixed = [str(part.value).strip() for part in parts if isinstance(part, ast.Constant)]
    assert fixed, ast.unparse(text)
    return max(fixed, key=len)


def test_the_page_knows_every_503() -> None:
    kinds = {kind for kind, failure in FAILURES.items() if failure.status == 503}
    assert kinds == {Overloaded, NotReady, StoreUnavailable}
    section = PAGE.partition("## Every 503, and what to do")[2].partition("\n## ")[0]
    texts = overloads() | {str(NotReady()), str(StoreUnavailable(""))}
    assert len(texts) > 6
    assert [text for text in sorted(texts) if text not in section] == []


def test_the_page_knows_the_exit_codes() -> None:
    codes = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for code in row.split(",")
    }
    assert codes >= {0, 1, WRONG, INTERRUPTED, READER_GONE}
