"""`vigil config`: the settings in force, and where each of them comes from. Secrets are not shown."""

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import SecretStr

from vigil.server.cli import ends
from vigil.server.cli.command_line import add_serve_arguments, typed_settings
from vigil.server.settings import layers
from vigil.server.settings.loading import load_settings, unknown_variables
from vigil.server.settings.rows import SETTINGS, Setting
from vigil.server.settings.settings import Settings

HIDDEN = "(not shown)"


class Line(NamedTuple):
    """One setting: what a configuration file calls it, its value as it would be typed, and its source."""

    setting: str
    value: str
    source: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_serve_arguments(parser)
    parser.usage = "vigil config [--json] [SETTING ...]"
    parser.add_argument("--json", action="store_true", default=False, help="for programs: a list of objects")


def run(arguments: argparse.Namespace) -> int:
    files = layers.read(vars(arguments).get("config"), os.environ)
    for warning in (*unknown_variables(os.environ), *files.warnings):
        ends.complain(warning)
    flags = typed_settings(arguments)
    lines = list(in_force(load_settings(flags, files.below), flags, os.environ, files.below))
    if arguments.json:
        print(json.dumps([line._asdict() for line in lines], indent=2))
    else:
        print(_table(lines))
    return 0


def in_force(
    settings: Settings,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    below: Mapping[str, layers.Given],
) -> Iterator[Line]:
    """A line for each setting."""
    taken = {name.upper() for name in environ}
    for row in SETTINGS:
        yield Line(row.name, _shown(settings, row), _source(row, flags, taken, below))


def _source(
    row: Setting, flags: Mapping[str, Any], taken: set[str], below: Mapping[str, layers.Given]
) -> str:
    if row.flag and row.name in flags:
        return row.flag
    if row.env in taken:
        return row.env
    return below[row.name].place if row.name in below else "default"


def _shown(settings: Settings, row: Setting) -> str:
    value = getattr(settings, row.name)
    if isinstance(value, SecretStr):
        return HIDDEN
    if row.name == "store":
        return f"sqlite:{settings.database}" if settings.database else "memory:"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return ",".join(value) or "none"
    return "none" if value in (None, "") else str(value)


def _table(lines: list[Line]) -> str:
    rows = [("SETTING", "VALUE", "SOURCE"), *lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
