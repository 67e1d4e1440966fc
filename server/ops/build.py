"""Which version this is, and of which commit: from the wheel's note, or from the clone that it runs in."""

import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

import vigil

UNKNOWN = "unknown"
NOTE = "commit.txt"  # beside vigil/__init__.py; `make wheel` writes it

_DIGITS = 12
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


def text() -> str:
    """`0.1.0 (1bd45c2af00d)`."""
    return f"{version('vigil-sessions')} ({commit()})"


@cache
def commit() -> str:
    """Its first digits, or `unknown`."""
    package = Path(vigil.__file__).parent
    try:
        note = package / NOTE
        found = note.read_text().strip() if note.exists() else _of_clone(package.parents[1] / ".git")
    except (OSError, ValueError):
        return UNKNOWN
    return found[:_DIGITS] if _COMMIT.fullmatch(found) else UNKNOWN


def _of_clone(git: Path) -> str:
    """Git's own files, so that no git has to be installed. In a work tree of its own `.git` names the directory."""
    if git.is_file():
        git = git.parent / git.read_text().removeprefix("gitdir:").strip()
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
    ref = head.removeprefix("ref: ")
    if (common / ref).exists():
        return (common / ref).read_text().strip()
    packed = (common / "packed-refs").read_text()
    found = re.search(rf"^([0-9a-f]{{40}}) {re.escape(ref)}$", packed, re.MULTILINE)
    return found[1] if found else UNKNOWN
