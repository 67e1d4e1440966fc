"""Files that a command writes when it is through: known to be writable before it begins, or refused in one line."""

import os
from pathlib import Path

from vigil.scenarios.errors import ScenarioError


class CannotWrite(ScenarioError):
    """The text names the file, and says why and what to do."""


def check_places(*files: Path | None) -> None:
    """Better known now than when the work is done. Raises CannotWrite."""
    for file in files:
        if file is not None and (why := _why_not(file)):
            raise CannotWrite(f"{file}: cannot be written: {why}")


def write(file: Path, content: str | bytes) -> None:
    """Raises CannotWrite."""
    try:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise CannotWrite(f"{file}: cannot be written: {error.strerror}") from None


def _why_not(file: Path) -> str:
    if not file.parent.is_dir():
        return f"there is no directory {file.parent}"
    if file.is_dir():
        return "it is a directory"
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        return "no permission"
    return ""
