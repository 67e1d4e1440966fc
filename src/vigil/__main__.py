"""The command line: parse, call, exit code. A command's rooms are entered only when it was chosen.

What takes time to import is imported in functions: an interrupt may come at any moment, and `ends` says what then.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from vigil.server.cli import ends

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from vigil.server.cli.command_line import Command


def _serve(arguments: "Namespace") -> int:
    import os

    from vigil.server.cli.command_line import typed_settings
    from vigil.server.ops.serve import serve
    from vigil.server.settings import layers
    from vigil.server.settings.loading import load_settings, unknown_variables

    files = layers.read(vars(arguments).get("config"), os.environ)
    for warning in (*unknown_variables(os.environ), *files.warnings):
        ends.complain(warning)
    return serve(load_settings(typed_settings(arguments), files.below))


def _keys(arguments: "Namespace") -> int:
    import os
    from datetime import UTC, datetime

    from vigil.server.cli.command_line import run_keys, typed_place

    data_dir, _ = typed_place(arguments, os.environ)
    print(run_keys(arguments, data_dir, now=datetime.now(UTC), random_bytes=os.urandom))
    return 0


def _agents(arguments: "Namespace") -> int:
    import os

    from vigil.actors.agents import catalogue

    print(*catalogue.check(arguments.file, os.environ), sep="\n")
    return 0


def _completed_shells(parser: "ArgumentParser") -> None:
    from vigil.server.cli import completion

    completion.add_arguments(parser)


def _completion(arguments: "Namespace") -> int:
    from vigil.server.cli import completion
    from vigil.server.cli.command_line import command_parser

    print(completion.script(arguments.shell, command_parser(commands())))
    return 0


def _of(name: str, meaning: str, module: str) -> "Command":
    """A command whose module has `add_arguments` and `run`."""
    from vigil.server.cli.command_line import Command

    def add_arguments(parser: "ArgumentParser") -> None:
        import_module(module).add_arguments(parser)

    def run(arguments: "Namespace") -> int:
        code: int = import_module(module).run(arguments)
        return code

    return Command(name, meaning, add_arguments, run)


def commands() -> "tuple[Command, ...]":
    """All subcommands, in the order in which the help shows them."""
    from vigil.server.cli import command_line
    from vigil.server.cli.command_line import Command

    return (
        Command("serve", "run the server", command_line.add_serve_arguments, _serve),
        Command("keys", "make, list and revoke API keys", command_line.add_keys_arguments, _keys),
        _of(
            "backup",
            "write all of a server's data to one file, while it serves",
            "vigil.server.cli.backup_command",
        ),
        _of("restore", "put a backup in the place of a server's data", "vigil.server.cli.restore_command"),
        _of(
            "doctor",
            "say what is wrong with a server or its machine, and what to do",
            "vigil.server.doctor.command",
        ),
        _of(
            "config",
            "show the settings in force, and where each comes from",
            "vigil.server.cli.config_command",
        ),
        Command("agents", "check an agent catalogue", command_line.add_agents_arguments, _agents),
        _of("replay", "play scenarios and recordings", "vigil.scenarios.replay.command"),
        _of(
            "simulate",
            "let a thousand people live a bad day, in virtual time",
            "vigil.scenarios.simulation.command",
        ),
        _of("load", "prove a server's limits under load", "vigil.loadtests.runner.command"),
        _of("bench", "measure how fast it is, against ceilings and peers", "vigil.loadtests.bench.command"),
        Command(
            "completion",
            "print what a shell completes commands and options with",
            _completed_shells,
            _completion,
        ),
    )


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command. Gives its exit code; 2 when what was typed, or a file that it names, is wrong."""
    words = sys.argv[1:] if argv is None else argv
    ends.open_closed_streams()
    with ends.noting() if list(words[:1]) == ["serve"] else ends.as_interrupts():
        try:
            code = _run(words)
        except SystemExit as left:
            raise SystemExit(ends.flushed(left.code if isinstance(left.code, int) else 0)) from None
        except BaseException as error:
            code = ends.end(error)
    return ends.flushed(code)


def _run(words: "Sequence[str]") -> int:
    from vigil.server.cli.command_line import command_parser

    arguments = command_parser(commands()).parse_args(words)
    code: int = arguments.run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
