"""`vigil completion SHELL`: what a shell needs to complete every command, option and fixed choice.

shtab makes it from the parsers, so a new option is in it by itself; while one types, nothing of Vigil runs. Here is
only what the parsers do not say: which values are paths, and the words that settings can have.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import shtab

from vigil.server.cli.command_line import ChosenParser
from vigil.server.settings.rows import SETTINGS

SHELLS = ("bash", "zsh", "fish")

_CHOICES = {row.name: row.choices for row in SETTINGS if row.choices}
_PATHS = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", metavar="SHELL", choices=SHELLS, help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}"
    )
    parser.epilog = (
        "Where shells look for it: ~/.local/share/bash-completion/completions/vigil, "
        "_vigil in a directory of zsh's fpath, ~/.config/fish/completions/vigil.fish."
    )


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """What to write into that shell's file. `parser` is of no use for parsing afterwards."""
    for action in actions(parser):
        if action.metavar in _PATHS:
            action.complete = _PATHS[str(action.metavar)]  # where shtab looks
        elif action.choices is None:
            action.choices = _CHOICES.get(action.dest)
    found: str = shtab.complete(parser, shell)
    return found.rstrip("\n")


def actions(parser: argparse.ArgumentParser) -> Iterator[Any]:
    """Every option and argument of this parser and of all commands below it."""
    if isinstance(parser, ChosenParser):
        parser.fill()
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from actions(child)
