"""The command line as a tired person meets it: what was meant, where to read on, no name of Python's."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import vigil.__main__ as vigil
from tests import ROOT
from tests.server.cli.commands import COMMANDS, FLAGS
from vigil.actors.agents import catalogue
from vigil.loadtests.verdict import thresholds
from vigil.scenarios.language import reading
from vigil.scenarios.replay import shipped, trace
from vigil.server.cli import extras
from vigil.server.http import listener
from vigil.server.ops import keys

ROOT = ROOT


class Typed(NamedTuple):
    code: int
    out: str
    err: str


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Typed:
    """What comes of a line, in this process."""
    try:
        code = vigil.main(words)
    except SystemExit as exit_:
        code = int(str(exit_.code))
    return Typed(code, *capsys.readouterr())


# --- what was meant


def test_vigil_alone_prints_its_help_and_fails_as_wrong_usage_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = said(capsys)
    assert (code, out) == (2, "")
    assert all(f"\n    {command.name}" in err for command in vigil.commands())


@pytest.mark.parametrize("command", ["keys", "agents"])
def test_a_command_without_its_action_prints_its_own_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, command)
    assert (code, out) == (2, "")
    assert err.startswith(f"usage: vigil {command}")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("serve --prot 3", "vigil serve: there is no option --prot: did you mean --port?"),
        ("serve --prot=3", "vigil serve: there is no option --prot: did you mean --port?"),
        ("srve --port 3", "vigil: there is no command 'srve': did you mean serve?"),
        ("--verson", "vigil: there is no option --verson: did you mean --version?"),
        ("keys nw x", "vigil keys: there is no action 'nw': did you mean new?"),
        ("keys new x --scop a", "vigil keys new: there is no option --scop: did you mean --scope?"),
        ("keys new x --scope sessions:raed", "there is no 'sessions:raed': did you mean sessions:read?"),
        ("agents chek f", "vigil agents: there is no action 'chek': did you mean check?"),
        ("replay --library warnigs", "--library: there is no 'warnigs': did you mean warnings?"),
        ("replay a.yaml --tmeline x", "vigil replay: there is no option --tmeline: did you mean --timeline?"),
        ("simulate --mix Realistic", "--mix: there is no 'Realistic': did you mean realistic?"),
        ("simulate --faults cras", "--faults: 'cras' is not a fault: did you mean crash?"),
        ("load realistc", "PROFILE: there is no 'realistc': did you mean realistic?"),
        ("bench htp", "PART: there is no 'htp': did you mean http?"),
        ("completion fsh", "SHELL: there is no 'fsh': did you mean fish?"),
        ("bench xyz", "there is no 'xyz': choose from http, actors, store, growth, floods, sim, all."),
        ("serve now", "vigil serve: takes no argument 'now'."),
        ("serve --port", "vigil serve: --port needs a value."),
        ("keys revoke", "vigil keys revoke: NAME is missing."),
        ("replay --serve --url http://x", "vigil replay: --url and --serve exclude each other."),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_may_have_been_meant(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, *shlex.split(line))
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"vigil[^\n]*{re.escape(told.removeprefix('vigil'))} See: vigil[^\n]* --help\n", err)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "serve --log-level inf",
            "--log-level: 'inf' is not debug, info, warning or error: did you mean info?",
        ),
        ("serve --front HOT", "--front: 'HOT' is not hot or quart: did you mean hot?"),
    ],
)
def test_a_choice_among_settings_has_the_nearest_too(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, *line.split()) == (2, "", f"vigil: {told}\n")


def test_a_key_to_revoke_has_the_nearest_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = f"--data-dir={tmp_path}"
    said(capsys, "keys", "new", "chat-window", "--scope=sessions:read", place)
    assert said(capsys, "keys", "revoke", "chat-windw", place).err.endswith(": did you mean chat-window?\n")


@pytest.mark.parametrize(("path", "flag"), FLAGS)
def test_every_option_is_found_behind_a_slip(
    path: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = " ".join(("vigil", *path))
    err = said(capsys, *path, f"{flag}x").err
    assert err == f"{name}: there is no option {flag}x: did you mean {flag}? See: {name} --help\n"


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        (path, action.option_strings or [action.metavar], (*path, *action.option_strings[-1:], bad))
        for path, parser in COMMANDS.items()
        for action in parser._actions
        if action.type not in (None, Path)
        for bad in ("?", "-1", "1e999", "9" * 5000, "٣", "")
    ],
)
def test_no_name_of_pythons_is_in_what_is_said_of_a_bad_value(
    path: tuple[str, ...], name: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = said(capsys, *words)
    assert code == 2
    assert f"{name[-1]}: " in err
    assert len(err) < 300
    assert not re.search(r"invalid|\b_|\bint\b|\bfloat\b|Traceback", err), err


BAD_FILES = {
    "agents.yaml": ("agents:\n  - {id: a, kind: ecko}\n", ["agents", "check"], "kind: echo"),
    "script.yaml": ("titel: x\n", ["replay"], "steps:"),
    "trace.jsonl": ('{"a": 1}\n', ["replay"], "vigil serve --record"),
    "callers.jsonl": ("", ["replay"], "vigil serve --record"),
}


# --- files that are wrong


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_answered_with_an_example_of_a_right_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, command, shows = BAD_FILES[name]
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    code, out, err = said(capsys, *command, name)
    assert (code, out) == (2, "")
    wrong, _, example = err.partition("\nThis is how one could look:\n")
    assert wrong.startswith(f"vigil: {name}")
    assert shows in example
    assert all(len(line) <= 80 or "http" in line for line in example.splitlines())


def test_bad_thresholds_keys_and_certificates_are_answered_with_an_example_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "\n  p99<250ms, send" in said(capsys, "load", "limits", "--threshold=p99<250").err
    (tmp_path / "keys.json").write_text('{"keys": 1}')
    assert '\n  {"keys": [{"name"' in said(capsys, "keys", "list", f"--data-dir={tmp_path}").err
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("no PEM")
    served = subprocess.run(
        [
            *(sys.executable, "-m", "vigil", "serve", "--store=memory:", "--port=0"),
            *(
                f"--data-dir={tmp_path}/data",
                f"--tls-cert={tmp_path}/cert.pem",
                f"--tls-key={tmp_path}/key.pem",
            ),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert served.returncode == 2
    assert "cert.pem and" in served.stderr.splitlines()[0]
    assert "\n  openssl req -x509" in served.stderr


def test_the_examples_are_right(tmp_path: Path) -> None:
    """Each is read by what refused the bad file."""
    file = tmp_path / "agents.yaml"
    file.write_text(catalogue.CatalogueError.example)
    assert len(catalogue.check(file, {})) == 2
    assert reading.parse(reading.BadScript.example, Path("script.yaml")).script.title
    assert all(thresholds.parse(one) for one in thresholds.BadThreshold.example.split(", "))
    (tmp_path / "keys.json").write_text(
        "".join(keys.BrokenKeysFile.example.splitlines()[:2]).replace(
            "THE 64 HEXADECIMAL DIGITS OF THE KEY'S SHA-256", "0" * 64
        )
    )
    assert keys.read_keys(tmp_path)[0].name == "chat-window"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_certificate_that_the_example_makes_is_one_that_serves(tmp_path: Path) -> None:
    command = listener.BadCertificate.example.partition("openssl")[2]
    subprocess.run(["/bin/sh", "-ec", f"openssl{command}"], cwd=tmp_path, check=True, capture_output=True)
    endpoint = listener.Endpoint(tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")
    assert listener.tls_context(endpoint) is not None


@pytest.mark.parametrize(
    "line", ["[1]", '{"caller": 1}', '{"caller": "a"}', '{"operation": 1}', '{"over": 1}', "{}", "\x00"]
)
def test_a_recording_that_is_damaged_anywhere_names_the_line(tmp_path: Path, line: str) -> None:
    limit = '{"requests": 1, "window_s": 1}'
    start = (
        '{"trace": 1, "version": "0", "startedAt": 0, "timeScale": 1, "content": false, "sessions": 0, "agents": [], '
        f'"settings": {{"limits": {{"session": {limit}, "user": {limit}, "agent": {limit}}}, "defaults": {{}}, '
        '"sessionMax": 1, "tombstoneMinutes": 1, "tombstoneMax": 1, "contentPolicy": true}}'
    ).replace(limit, "[1, 1]")
    file = tmp_path / "a.jsonl"
    file.write_text(f"{start}\n")
    trace.read(file)
    file.write_text(f"{start}\n{line}\n")
    with pytest.raises(trace.TraceError, match=r"a\.jsonl:2: "):
        trace.read(file)


# --- what is not installed


def test_a_missing_extra_in_a_clone_says_make_setup_and_elsewhere_the_pip_line(tmp_path: Path) -> None:
    assert extras.install_line("load") == "make setup"
    assert extras.install_line("load", tmp_path / "Makefile") == "pip install 'vigil-sessions[load]'"
    with pytest.raises(extras.MissingExtra, match=r"vigil load needs nothing_like_it, .* Run: make setup$"):
        extras.need("vigil load", "load", "trio", "nothing_like_it")


# --- the library


def test_the_library_is_played_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, "replay", "--library", "warnings", "tokens")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("2 held, 0 failed, 0 skipped")


def test_the_library_without_a_name_is_all_of_it() -> None:
    assert [path.stem for path in shipped.files([])] == shipped.names()
    assert len(shipped.names()) == len(list((ROOT / "scenarios/library").glob("*.yaml"))) > 30


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("scenarios/library", ". The library that comes with Vigil: vigil replay --library"),
        ("library/warnings.yaml", ". The library's is played by its name: vigil replay --library warnings"),
        ("nowhere.yaml", ""),
        ("nowhere", ""),
    ],
)
def test_a_file_that_is_not_there_is_said_to_be_so(
    path: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "replay", path) == (2, "", f"vigil: {path}: there is no such file{hint}\n")


# --- 50 columns


@pytest.mark.parametrize("path", COMMANDS)
def test_help_fits_into_fifty_columns(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    code, out, _ = said(capsys, *path, "--help")
    assert code == 0
    unbroken = re.compile(r"\S{30,}")  # a path or a list of words, which nobody can break
    assert [line for line in out.splitlines() if len(line) > 50 and not unbroken.search(line)] == []
