"""What the shells complete."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import vigil.__main__ as vigil
from tests.server.cli.commands import COMMANDS, FLAGS
from vigil.server.cli import completion
from vigil.server.cli.command_line import command_parser
from vigil.server.cli.parser import Parser


def scripts(shell: str) -> str:
    return completion.script(shell, command_parser(vigil.commands()))


def offered(found: str) -> list[set[str]]:
    """The options in each line."""
    return [{word for word in line.split() if word.startswith("--")} for line in found.splitlines()]


EXPECTED = [
    {flag for flag in parser._option_string_actions if flag[:2] == "--"} for parser in COMMANDS.values()
]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_command_and_every_option_is_in_the_completion(shell: str) -> None:
    text = scripts(shell)
    for path, flag in FLAGS:
        shown = f" -l {flag[2:]} " if shell == "fish" else flag
        assert shown in text, (path, flag)
    for path in COMMANDS:
        assert not path or re.search(rf"\b{path[-1]}\b", text), path


def run_shell(shell: str, text: str, tmp_path: Path) -> str:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "completing"
    file.write_text(text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [program, file],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_completes_every_option_and_the_fixed_choices(tmp_path: Path) -> None:
    def ask(*words: str) -> str:
        typed = " ".join(shlex.quote(word) for word in words)
        return f"COMP_WORDS=(vigil {typed}); COMP_CWORD={len(words)}; _shtab_vigil; echo ${{COMPREPLY[*]}}\n"

    (tmp_path / "trace.jsonl").touch()
    chosen = [
        (("serve", "--log-level", ""), "debug info warning error"),
        (("keys", "new", "x", "--scope", "sessions:c"), "sessions:create"),
        (("replay", "--library", "tok"), "tokens"),
        (("replay", "tra"), "trace.jsonl"),
        (("load", "r"), "realistic"),
        (("comp",), "completion"),
    ]
    every = "".join(ask(*path, "--") for path in COMMANDS)
    told = run_shell(
        "bash", scripts("bash") + "\n" + every + "".join(ask(*words) for words, _ in chosen), tmp_path
    )
    lines = told.splitlines()
    assert offered("\n".join(lines[: len(EXPECTED)])) == EXPECTED
    assert lines[len(EXPECTED) :] == [expected for _, expected in chosen]


def test_fish_completes_every_option_and_the_fixed_choices(tmp_path: Path) -> None:
    def ask(line: str) -> str:
        return f"echo (complete -C {shlex.quote(f'vigil {line}')} | string split -f1 \\t)\n"

    (tmp_path / "trace.jsonl").touch()
    chosen = {
        "serve --log-level ": "debug info warning error",
        "keys new x --scope sessions:c": "sessions:create",
        "replay --library tok": "tokens",
        "replay tra": "trace.jsonl",
        "load r": "realistic",
        "comp": "completion",
    }
    every = "".join(ask(f"{' '.join(path)} --".lstrip()) for path in COMMANDS)
    told = run_shell("fish", scripts("fish") + "\n" + every + "".join(map(ask, chosen)), tmp_path)
    lines = told.splitlines()
    assert offered("\n".join(lines[: len(EXPECTED)])) == EXPECTED
    assert lines[len(EXPECTED) :] == list(chosen.values())


def test_zsh_takes_the_script(tmp_path: Path) -> None:
    (tmp_path / "_vigil").write_text(scripts("zsh"))
    load = "fpath=($HOME $fpath); autoload -Uz compinit; compinit -u -D; autoload +X _vigil; echo $_comps[vigil]\n"
    assert run_shell("zsh", load, tmp_path) == "_vigil\n"


def test_parsers_made_anew_know_their_choices_only_where_argparse_checks_them() -> None:
    """The completion fills choices in; what parses must not refuse by them before the settings do."""
    scripts("bash")
    parser = command_parser(vigil.commands())
    assert isinstance(parser, Parser)
    assert parser.parse_args(["serve", "--session-default-auto-renew", "yes"])
