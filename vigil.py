"""The command line: parse, call, exit code. A command's rooms are entered only when it was chosen."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module

from actors.errors import VigilError
from server.command_line import (
    Command,
    add_agents_arguments,
    add_keys_arguments,
    add_serve_arguments,
    command_parser,
    run_keys,
    typed_data_dir,
    typed_settings,
)
from server.refusal import refusal


def _serve(arguments: argparse.Namespace) -> int:
    from server.serve import serve
    from server.settings import load_settings, unknown_variables

    for warning in unknown_variables(os.environ):
        print(f"vigil: {warning}", file=sys.stderr)
    return serve(load_settings(typed_settings(arguments)))


def _keys(arguments: argparse.Namespace) -> int:
    data_dir = typed_data_dir(arguments, os.environ)
    print(run_keys(arguments, data_dir, created=datetime.now(UTC).date(), random_bytes=os.urandom))
    return 0


def _agents(arguments: argparse.Namespace) -> int:
    from actors.agents import catalogue

    print(*catalogue.check(arguments.file, os.environ), sep="\n")
    return 0


def _completed_shells(parser: argparse.ArgumentParser) -> None:
    from server import completion

    completion.add_arguments(parser)


def _completion(arguments: argparse.Namespace) -> int:
    from server import completion

    print(completion.script(arguments.shell, command_parser(COMMANDS)))
    return 0


def _of(name: str, meaning: str, module: str) -> Command:
    """A command whose module has `add_arguments` and `run`."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        import_module(module).add_arguments(parser)

    def run(arguments: argparse.Namespace) -> int:
        code: int = import_module(module).run(arguments)
        return code

    return Command(name, meaning, add_arguments, run)


COMMANDS = (
    Command("serve", "run the server", add_serve_arguments, _serve),
    Command("keys", "make, list and revoke API keys", add_keys_arguments, _keys),
    Command("agents", "check an agent catalogue", add_agents_arguments, _agents),
    _of("replay", "play scenarios and recordings", "scenarios.replay"),
    _of("simulate", "let a thousand people live a bad day, in virtual time", "scenarios.simulation_command"),
    _of("load", "prove a server's limits under load", "loadtests.load"),
    _of("bench", "measure how fast it is, against ceilings and peers", "loadtests.bench.command"),
    Command(
        "completion", "print what a shell completes commands and options with", _completed_shells, _completion
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Gives its exit code; 2 when what was typed, or a file that it names, is wrong."""
    arguments = command_parser(COMMANDS).parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except VigilError as error:
        print(refusal(error), file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
