"""The library that comes with Vigil, by name: `warnings` is `library/warnings.yaml`, wherever Vigil is installed."""

from collections.abc import Sequence
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "library"


def names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def files(wanted: Sequence[str]) -> list[Path]:
    """The scripts of these names, in their order; all of them when none is named."""
    return [_path(name) for name in wanted or names()]


def instead_of(path: Path) -> str:
    """The end of a message about a file that is not there: how to play the library's, if that was meant."""
    if path.stem in names():
        return f". The library's is played by its name: vigil replay --library {path.stem}"
    is_folder = path.name == _FOLDER.name
    return ". The library that comes with Vigil: vigil replay --library" if is_folder else ""


def _path(name: str) -> Path:
    """From where one stands, if the library is below: so it is shorter in what is printed."""
    path, here = _FOLDER / f"{name}.yaml", Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
