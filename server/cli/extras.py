"""How to get an optional part of Vigil that is not installed: in a clone by make, else by pip."""

from importlib.util import find_spec
from pathlib import Path

from vigil.actors.core.errors import VigilError

_MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


class MissingExtra(VigilError):
    """A command needs packages that only an extra brings."""


def need(command: str, extra: str, *packages: str) -> None:
    """Raises MissingExtra for the first of the packages that is not there."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(
                f"{command} needs {package}, which is not installed. Run: {install_line(extra)}"
            )


def install_line(extra: str, makefile: Path = _MAKEFILE) -> str:
    """What to type. A Makefile beside the code is a clone's: nothing is installed there but by it."""
    if makefile.is_file():
        return "make setup"
    return f"pip install 'vigil-sessions[{extra}]'"
