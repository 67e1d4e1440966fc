"""Settings below the environment: `.env` in the current directory, and below it a TOML file.

Owns which of two places counts and how a place is named to people. What a value means it refuses to know: the
settings' own model reads it as if it had been typed.
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dotenv import dotenv_values

from vigil.actors.core.suggestion import did_you_mean
from vigil.server.settings.loading import SettingsError, unknown_variables
from vigil.server.settings.rows import SETTINGS

CONFIG_VARIABLE = "VIGIL_CONFIG"
DOTENV = Path(".env")


class Given(NamedTuple):
    """A setting as a file has it, and what that place is called: `vigil.toml: port`."""

    value: str | list[str]
    place: str


class Layers(NamedTuple):
    """What files say of settings that the environment does not name; and warnings about them, a line each."""

    below: Mapping[str, Given]
    warnings: list[str]


def read(config: Path | None, environ: Mapping[str, str], dotenv: Path = DOTENV) -> Layers:
    """`config` is the file that was typed; without one `VIGIL_CONFIG` names it. Raises SettingsError."""
    variables = _variables(dotenv)
    named = {**variables, **environ}.get(CONFIG_VARIABLE)
    path = config or (Path(named) if named else None)
    taken = {name.upper() for name in environ}
    below = {
        **(_from_toml(path) if path else {}),
        **{
            row.name: Given(variables[row.env], f"{dotenv}: {row.env}")
            for row in SETTINGS
            if row.env in variables
        },
    }
    rest = {row.name: below[row.name] for row in SETTINGS if row.name in below and row.env not in taken}
    return Layers(rest, [f"{dotenv}: {line}" for line in unknown_variables(variables)])


def variables(below: Mapping[str, Given], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment as it would be with the files' settings in it; those that are lists are left out."""
    files = {row.env: below[row.name].value for row in SETTINGS if row.name in below}
    return {name: value for name, value in files.items() if isinstance(value, str)} | dict(environ)


def _variables(path: Path) -> dict[str, str]:
    """What `.env` sets, by names in capitals, as the environment's are read; nothing when there is none."""
    if not path.is_file():
        return {}
    try:
        found = dotenv_values(path, interpolate=False)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {_why(error)}") from None
    return {name.upper(): value for name, value in found.items() if value is not None}


def _from_toml(path: Path) -> dict[str, Given]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {_why(error)}") from None
    if faults := list(_faults(path, content)):
        raise SettingsError("\n".join(faults))
    return {name: Given(_typed(value), f"{path}: {name}") for name, value in content.items()}


def _faults(path: Path, content: Mapping[str, Any]) -> Iterator[str]:
    known = [row.name for row in SETTINGS]
    for name, value in content.items():
        if name not in known:
            near = did_you_mean(name.replace("-", "_"), known) or ". See: vigil config"
            yield f"{path}: there is no setting {name!r}{near}"
        elif not all(isinstance(one, str | int | float) for one in _parts(value)):
            yield f"{path}: {name} is neither a text, a number, true or false, nor a list of texts"


def _parts(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else (value,)


def _typed(value: Any) -> str | list[str]:
    """As a person would type it: so `port = true` is no port, whatever Python makes of a boolean."""
    if isinstance(value, list):
        return [str(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _why(error: OSError | ValueError) -> str:
    return error.strerror or os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
