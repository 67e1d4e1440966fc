"""Lines of `vigil serve` as they are typed."""

import shlex

import pytest

from vigil.server.cli.command_line import (
    Command,
    add_keys_arguments,
    add_serve_arguments,
    command_parser,
    typed_settings,
)
from vigil.server.cli.parser import Parser
from vigil.server.settings.loading import load_settings
from vigil.server.settings.rows import SETTINGS
from vigil.server.settings.settings import Settings

FLAGS = [row for row in SETTINGS if row.flag is not None]


def parser() -> Parser:
    return command_parser(
        [
            Command("serve", "run the server", add_serve_arguments, lambda _: 0),
            Command("keys", "make, list and revoke API keys", add_keys_arguments, lambda _: 0),
        ]
    )


def typed(line: str) -> Settings:
    """The settings of a `vigil serve` line."""
    return load_settings(typed_settings(parser().parse_args(["serve", *shlex.split(line)])))


def refusal(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Exit code and standard error of a line that is refused."""
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(shlex.split(line))
    captured = capsys.readouterr()
    assert captured.out == ""
    return exit_.value.code, captured.err
