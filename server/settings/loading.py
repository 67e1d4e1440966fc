"""Settings from flags, environment and defaults, in this order; and what is said of those that are wrong.

It opens no file and starts nothing.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import (
    ValidationError,
)

from vigil.actors.core.errors import VigilError
from vigil.actors.core.suggestion import did_you_mean
from vigil.server.settings.rows import SETTINGS, Setting
from vigil.server.settings.settings import Settings


class SettingsError(VigilError):
    """Bad settings. The text has one line for each: its flag or variable, its value, what is allowed."""


def load_settings(
    flags: Mapping[str, Any], below: Mapping[str, tuple[Any, str]] = MappingProxyType({})
) -> Settings:
    """The settings in force: `flags` (name to text, as typed) over the environment over `below` over defaults.

    `below` is what files say of settings that the environment does not name: name to text, and where it stands.
    Raises SettingsError.
    """
    given = {name: value for name, (value, _) in below.items()} | dict(flags)
    try:
        return Settings(**{_input_name(name): value for name, value in given.items()})
    except ValidationError as error:
        # Not chained: a traceback would show what was typed, secrets too.
        places = {name: place for name, (_, place) in below.items()}
        raise SettingsError("\n".join(_faults(error, flags, places))) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line of warning for each variable that looks like a setting and is none."""
    known = {setting.env for setting in SETTINGS}
    return [line for name in sorted(environ) if name.upper() not in known for line in _suspicion(name, known)]


def _suspicion(name: str, known: Iterable[str]) -> Iterator[str]:
    """Any VIGIL_ name is suspect; SESSION_ ones, which desktops use too, only when nearly a setting's."""
    if name in _OTHERS or _KUBERNETES.fullmatch(name):
        return
    like = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    hint = f": did you mean {like[0]}?" if like else ". See: vigil serve --help"
    if name.startswith("VIGIL_") or (like and name.startswith("SESSION_")):
        yield f"The environment variable {name} is not a setting{hint}"


def _input_name(name: str) -> str:
    """What pydantic takes a field by. Not by both names: VIGIL_SESSION_... would be taken too."""
    return Settings.model_fields[name].alias or name


_OTHERS = frozenset({"VIGIL_CONFIG", "VIGIL_PROVE"})  # which file has settings; read by the tests
# What Kubernetes sets in every pod beside a service that is called vigil.
_KUBERNETES = re.compile(r"VIGIL_(SERVICE_(HOST|PORT)\w*|PORT_\d+_(TCP|UDP)\w*)", re.ASCII)


def _faults(error: ValidationError, flags: Mapping[str, Any], places: Mapping[str, str]) -> Iterator[str]:
    settings = {setting.name: setting for setting in SETTINGS}
    for fault in error.errors(include_url=False):
        if not fault["loc"]:
            yield str(fault["ctx"]["error"])
            continue
        setting = settings[str(fault["loc"][0]).lower()]
        by_flag = setting.flag if setting.name in flags else None
        yield _fault(setting, fault["input"], by_flag or places.get(setting.name, setting.env))


def _fault(setting: Setting, value: object, source: str) -> str:
    shown = "its value (not shown)" if setting.flag is None else repr(value)[:120]
    near = did_you_mean(str(value), setting.choices)
    return f"{source}: {shown} is not {setting.allowed}{near}"
