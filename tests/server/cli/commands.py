"""Every command of `vigil` and its flags, and what comes of a line."""

from collections.abc import Iterator
from typing import Any

import vigil.__main__ as vigil
from vigil.server.cli.command_line import ChosenParser, command_parser


def parsers(parser: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words: `("keys", "new")`."""
    if isinstance(parser, ChosenParser):
        parser.fill()
    yield path, parser
    if parser._subparsers is not None:
        for name, child in parser._subparsers._group_actions[0].choices.items():
            yield from parsers(child, (*path, name))


COMMANDS = dict(parsers(command_parser(vigil.commands())))


FLAGS = [
    (path, flag)
    for path, parser in COMMANDS.items()
    for flag in parser._option_string_actions
    if flag.startswith("--")
]
