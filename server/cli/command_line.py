"""The command line: parsers made from the settings and a table of commands, and the texts that are printed.

Starts nothing: `vigil.py` gives each command its function and turns errors into exit codes.
"""

import argparse
import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from vigil.server.api.auth import SCOPES
from vigil.server.cli.argument_types import duration
from vigil.server.cli.parser import Parser
from vigil.server.http.addresses import UNIX
from vigil.server.ops import build
from vigil.server.ops.keys import (
    ENVIRONMENT_KEY,
    clear_key_file,
    has_clear_key,
    new_key,
    revoke_key,
    rotate_key,
)
from vigil.server.ops.keys_table import keys_table, shown
from vigil.server.ops.token_secrets import KEEP_DEFAULT, rotate_secret
from vigil.server.settings import layers
from vigil.server.settings.rows import SETTINGS, Setting
from vigil.server.settings.settings import Settings


class Command(NamedTuple):
    """One subcommand. `run` takes what was typed and gives the exit code."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class ChosenParser(Parser):
    """A command's own parser, which gets its arguments when the command was chosen."""

    command: Command | None = None

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        self.fill()
        return super().parse_known_args(*arguments, **options)

    def fill(self) -> None:
        """Give it its arguments, if it has none yet."""
        command, self.command = self.command, None
        if command is not None:
            command.add_arguments(self)


def command_parser(commands: Iterable[Command]) -> Parser:
    """The parser of `vigil`. What it parses has `run`, the chosen command's function."""
    parser = Parser(prog="vigil", description="A Sessions API server where every live session is a task.")
    parser.add_argument("--version", action="version", version=f"vigil {build.text()}")
    choice = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=ChosenParser)
    for command in commands:
        child = choice.add_parser(command.name, help=command.help, description=_sentence(command.help))
        child.command = command
        child.set_defaults(run=command.run)
    return parser


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting that has one, under the headings of the settings."""
    parser.usage = "vigil serve [SETTING ...]"
    parser.epilog = (
        "A flag beats the environment variable, that beats .env in the current directory, that the file of --config, "
        "and that the default. vigil config shows what is in force, and from where."
    )
    add_config_argument(parser)
    for name, settings in groupby(SETTINGS, attrgetter("group")):
        rows = list(settings)
        # argparse shows what has no flag only as the heading's text
        by_variable = [f"{row.env}: {row.meaning} ({row.allowed})" for row in rows if row.flag is None]
        group = parser.add_argument_group(name, "; ".join(by_variable) or None)
        for row in rows:
            if row.flag is not None:
                _add_flag(group, row)


def add_keys_arguments(parser: argparse.ArgumentParser) -> None:
    """`new`, `list`, `rotate`, `revoke` and `rotate-secret`, each with `--data-dir`."""
    choice = parser.add_subparsers(metavar="ACTION", required=True)
    for action, meaning in _KEY_ACTIONS.items():
        child = choice.add_parser(action, help=meaning, description=_sentence(meaning))
        child.set_defaults(action=action)
        add_place_arguments(child)
        if action in ("new", "rotate", "revoke"):
            child.add_argument("name", metavar="NAME", help="the key's name")
        if action == "new":
            child.add_argument(
                "--scope",
                action="append",
                required=True,
                metavar="SCOPE",
                choices=SCOPES,
                help=f"what the key may do, once for each: {', '.join(SCOPES[:-1])} or {SCOPES[-1]}",
            )
        if action in ("new", "rotate"):
            child.add_argument(
                "--expires",
                metavar="TIME",
                type=duration(most=_KEY_LIFE_MAX, least=timedelta(minutes=1)),
                help="for how long the key is good, such as 90d or 12h; default: for ever",
            )
        if action in _KEEP_DEFAULTS:
            keep = _KEEP_DEFAULTS[action]
            child.add_argument(
                "--keep",
                metavar="TIME",
                type=duration(most=_KEY_LIFE_MAX),
                default=keep,
                help=f"for how long the one before stays good; 0m ends it now (default {keep // _HOUR}h)",
            )


def add_place_arguments(parser: argparse._ActionsContainer) -> None:
    """`--data-dir` and `--config`, for commands that work on a server's files."""
    _add_flag(parser, next(row for row in SETTINGS if row.name == "data_dir"))
    add_config_argument(parser)


def add_store_argument(parser: argparse._ActionsContainer) -> None:
    _add_flag(parser, next(row for row in SETTINGS if row.name == "store"))


def add_config_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="settings in TOML, below the environment and .env; names as vigil config shows them (VIGIL_CONFIG)",
    )


def add_agents_arguments(parser: argparse.ArgumentParser) -> None:
    """`check FILE`."""
    choice = parser.add_subparsers(metavar="ACTION", required=True)
    meaning = "say what an agent catalogue holds, or what is wrong with it"
    child = choice.add_parser("check", help=meaning, description=_sentence(meaning))
    child.add_argument(
        "file", metavar="FILE", type=Path, help="the catalogue, as given to vigil serve --agents"
    )


def run_keys(
    arguments: argparse.Namespace, data_dir: Path, *, now: datetime, random_bytes: Callable[[int], bytes]
) -> str:
    """Do what `vigil keys ...` asks and give the text to print. Raises KeysError or DataDirError."""
    span = getattr(arguments, "expires", None)
    expires = None if span is None else now + span
    match arguments.action:
        case "list":
            return keys_table(data_dir, now)
        case "revoke":
            revoke_key(data_dir, arguments.name)
            return f"The key {arguments.name!r} is revoked"
        case "rotate-secret":
            until = rotate_secret(data_dir, keep=arguments.keep, now=now, random_bytes=random_bytes)
            return f"Session tokens are signed anew; those given out so far are good until {shown(until)}"
        case "rotate":
            name, keep = arguments.name, arguments.keep
            return rotate_key(data_dir, name, keep=keep, now=now, random_bytes=random_bytes, expires=expires)
    return new_key(
        data_dir,
        arguments.name,
        arguments.scope,
        created=now.date(),
        random_bytes=random_bytes,
        expires=expires,
    )


def typed_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings among what was typed, as text, for `load_settings`."""
    typed = vars(arguments)
    return {row.name: typed[row.name] for row in SETTINGS if row.flag is not None and row.name in typed}


def typed_data_dir(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Path:
    """The data directory for `vigil keys`, which must work when another setting is bad."""
    row = next(row for row in SETTINGS if row.name == "data_dir")
    return Path(typed_settings(arguments).get(row.name) or environ.get(row.env) or row.default)


def typed_place(arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Path, str | None]:
    """The data directory and the store, for commands on a server's files; the store is None if nobody names one.

    Raises SettingsError for a file of settings that cannot be read.
    """
    files = layers.read(vars(arguments).get("config"), environ)
    variables = layers.variables(files.below, environ)
    store = typed_settings(arguments).get("store") or variables.get("VIGIL_STORE")
    return typed_data_dir(arguments, variables), store


def settings_table() -> str:
    """All settings as a Markdown table, for docs/settings.md."""
    rows = [
        ("setting", "environment", "default", "meaning"),
        ("---", "---", "---", "---"),
        *(
            (
                f"`{row.flag}`" if row.flag else "",
                f"`{row.env}`",
                f"`{row.default}`",
                f"{row.meaning} ({row.allowed})",
            )
            for row in SETTINGS
        ),
    ]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def base_url(url: str, root_path: str) -> str:
    """What stands before the paths of the API; a socket file (unix:PATH) has nothing like that."""
    return url if url.startswith(UNIX) else url + root_path


def curl_line(url: str, settings: Settings, agent_id: str = "agent-123") -> str | None:
    """A shell command that creates a session at `url`, a base URL or unix:PATH; None when no key is known in clear.

    Raises KeysError or DataDirError.
    """
    key = _shell_key(settings)
    if key is None:
        return None
    body = json.dumps({"agentId": agent_id, "userId": "user-456"}, separators=(",", ":"), ensure_ascii=False)
    return (
        f"curl {_through(url)}-X POST {shlex.quote(f'{_named(url, settings)}/api/messaging/sessions')} "
        f'-H "Authorization: Bearer {key}" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def _through(url: str) -> str:
    """The option that leads curl to a socket file."""
    return f"--unix-socket {shlex.quote(url.removeprefix(UNIX))} " if url.startswith(UNIX) else ""


def _named(url: str, settings: Settings) -> str:
    """The base URL that curl is to name."""
    if not url.startswith(UNIX):
        return url
    return f"{'https' if settings.tls_cert else 'http'}://localhost{settings.root_path}"


_KEY_ACTIONS = {
    "new": "make a key and print it, this once",
    "list": "show the keys' names, scopes and dates",
    "rotate": "make a key anew and print it; the one before stays good for a while",
    "revoke": "remove a key; running servers refuse it within a second",
    "rotate-secret": "sign session tokens with a new secret; those given out stay good for a while",
}
_HOUR = timedelta(hours=1)
_KEY_LIFE_MAX = timedelta(days=3650)
_KEEP_DEFAULTS = {"rotate": timedelta(hours=24), "rotate-secret": KEEP_DEFAULT}


_SHAPES: dict[str, dict[str, Any]] = {
    "host": {"action": "append"},
    "allow_origin": {"action": "extend", "nargs": "+"},
    "record_content": {"nargs": "?", "const": "true"},  # the flag alone says yes
}


def _add_flag(parser: argparse._ActionsContainer, row: Setting) -> None:
    several = _SHAPES.get(row.name, {})
    text = f"{row.meaning} ({row.allowed}; default {row.default}; {row.env})"
    parser.add_argument(
        str(row.flag), dest=row.name, metavar=row.metavar, help=text.replace("%", "%%"), **several
    )


def _shell_key(settings: Settings) -> str | None:
    """What a shell puts in the key's place, inside double quotes."""
    if settings.api_key is not None:
        return f"${ENVIRONMENT_KEY}"
    if has_clear_key(settings.data_dir):
        return f"$(cat {shlex.quote(str(clear_key_file(settings.data_dir)))})"
    return None


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
