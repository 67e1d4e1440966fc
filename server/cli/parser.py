"""argparse as a tired person needs it: one line that says what is wrong, what may have been meant, where to read on.

Knows no command. What was not typed is left out of what is parsed, and wrong usage ends with exit code 2.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from vigil.actors.core.suggestion import did_you_mean

WIDTH_MAX = 100


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line. Without any word, one that has commands prints its help, also with 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            formatter_class=_Help, allow_abbrev=False, argument_default=argparse.SUPPRESS, **options
        )

    def parse_known_args(  # type: ignore[override]  # argparse has overloads for namespaces of one's own
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Nothing is left over: what is not known is refused here, where the command is known."""
        words = sys.argv[1:] if args is None else args
        if self._subparsers is not None and not words:
            self.print_help(sys.stderr)
            self.exit(2)
        if flag := self._unknown_flag(words):
            self.error(f"there is no option {flag}{did_you_mean(flag, self._option_string_actions)}")
        parsed, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"takes no argument {rest[0]!r}")
        return parsed, []

    def error(self, message: str) -> NoReturn:
        for pattern, ours in _IN_OUR_WORDS:
            message = pattern.sub(ours, message)
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog}: {message}{end} See: {self.prog} --help\n")

    def _unknown_flag(self, words: Sequence[str]) -> str:
        for word in words:
            name = word.partition("=")[0]
            if word == "--":
                break
            if _FLAG.fullmatch(name) is None:
                if self._subparsers is not None:
                    break  # a command: what follows is its own
            elif name not in self._option_string_actions:
                return name
        return ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Called by argparse for whatever has choices; so are commands."""
        choices = list(action.choices or ())
        if not choices or value in choices:
            return
        near = did_you_mean(str(value), choices) or f": choose from {', '.join(choices)}"
        if isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(None, f"there is no {str(action.metavar).lower()} {value!r}{near}")
        raise argparse.ArgumentError(action, f"there is no {value!r}{near}")


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(WIDTH_MAX, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=min(30, width // 3), width=width)


_FLAG = re.compile(r"-[^\s\d.][^\s]*")  # and not a negative number

_IN_OUR_WORDS = (
    (re.compile(r"^argument "), ""),
    (re.compile(r"^the following arguments are required: (.*)"), r"\1 is missing"),
    (re.compile(r": expected one argument$"), " needs a value"),
    (re.compile(r": expected at least one argument$"), " needs at least one value"),
    (re.compile(r": ignored explicit argument '.*'$"), " takes no value"),
    (re.compile(r": not allowed with argument (.*)"), r" and \1 exclude each other"),
)
