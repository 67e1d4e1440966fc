"""The command line that is made from the settings: help, keys, the curl line."""

import argparse
import os
import re
import shlex
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.server.ops.typed import FLAGS, parser, refusal, typed
from vigil.server.cli.command_line import (
    Command,
    base_url,
    command_parser,
    curl_line,
    run_keys,
    settings_table,
    typed_data_dir,
)
from vigil.server.ops.data_dir import open_data_dir
from vigil.server.ops.keys import clear_key_file, ensure_default_key, new_key, read_keys
from vigil.server.settings.loading import load_settings
from vigil.server.settings.rows import SETTINGS

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


pytestmark = pytest.mark.usefixtures("own_environment")


def help_of(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(shlex.split(line))
    assert exit_.value.code == 0
    return capsys.readouterr().out


# --- the command line


def test_help_shows_every_setting_with_default_unit_and_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = help_of("serve --help", capsys)
    flat = " ".join(text.split())
    for row in SETTINGS:
        assert row.meaning in flat
        assert row.env in flat
    for row in FLAGS:
        assert re.search(rf"{row.flag} \[?{re.escape(row.metavar)}", flat)
        assert f"({row.allowed}; default {row.default}; {row.env})" in flat
    assert max(map(len, text.splitlines())) <= 100


def test_settings_that_are_durations_say_their_unit() -> None:
    units = {"_s": "seconds", "_minutes": "minutes"}
    for row in SETTINGS:
        for suffix, unit in units.items():
            assert not row.name.endswith(suffix) or unit in row.meaning


def test_help_fits_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, help_of("serve --help", capsys).splitlines())) <= 80


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert re.fullmatch(r"vigil \d+\.\d+\.\d+ \(([0-9a-f]{12}|unknown)\)\n", help_of("--version", capsys))


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("fly", "'fly'"),
        ("serve --prot 3000", "--prot"),
        ("serve --por 3000", "--por"),
        ("serve --port", "--port"),
        ("serve now", "now"),
        ("keys new reader", "--scope"),
        ("keys new --scope sessions:read", "NAME"),
        ("keys revoke", "NAME"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    line: str, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = refusal(line, capsys)
    assert code == 2
    assert re.fullmatch(rf"vigil[^\n]*{re.escape(names)}[^\n]*See: vigil[^\n]* --help\n", text)


def test_a_command_of_the_table_is_what_runs() -> None:
    calls: list[argparse.Namespace] = []

    def run(arguments: argparse.Namespace) -> int:
        calls.append(arguments)
        return 7

    table = [Command("replay", "play a script", lambda parser: parser.set_defaults(script="a"), run)]
    arguments = command_parser(table).parse_args(["replay"])
    assert arguments.run(arguments) == 7
    assert calls[0].script == "a"


def test_the_keys_commands_make_list_and_revoke(tmp_path: Path) -> None:
    def keys(*line: str) -> str:
        arguments = parser().parse_args(["keys", *line, "--data-dir", str(tmp_path)])
        data_dir = typed_data_dir(arguments, {})
        return run_keys(arguments, data_dir, now=NOW, random_bytes=os.urandom)

    key = keys("new", "reader", "--scope", "sessions:read", "--scope", "sessions:health")
    assert key.startswith("vigil_")
    assert read_keys(tmp_path)[0].scopes == ("sessions:read", "sessions:health")
    assert "reader  sessions:read sessions:health  2026-11-22" in keys("list")
    assert keys("revoke", "reader") == "The key 'reader' is revoked"
    assert read_keys(tmp_path) == ()


def test_the_keys_commands_find_the_data_directory_even_when_another_setting_is_bad() -> None:
    environ = {"VIGIL_DATA_DIR": "from-environment", "VIGIL_PORT": "bad"}
    arguments = parser().parse_args(["keys", "list"])
    assert typed_data_dir(arguments, {}) == Path("vigil-data")
    assert typed_data_dir(arguments, environ) == Path("from-environment")
    arguments = parser().parse_args(["keys", "list", "--data-dir", "typed"])
    assert typed_data_dir(arguments, environ) == Path("typed")


def test_the_table_for_the_readme_has_a_row_for_each_setting() -> None:
    head, rule, *rows = settings_table().splitlines()
    assert head == "| setting | environment | default | meaning |"
    assert rule == "| --- | --- | --- | --- |"
    assert len(rows) == len(SETTINGS)
    assert rows[1] == (
        "| `--port` | `VIGIL_PORT` | `3000` | TCP port; 0 takes a free one and prints it "
        "(a whole number from 0 to 65535) |"
    )
    assert {row.count("|") for row in rows} == {5}


def arguments_of(line: str, environ: dict[str, str]) -> list[str]:
    """What a real shell makes of a curl line."""
    script = f'curl() {{ printf "%s\\n" "$@"; }}\n{line}'
    done = subprocess.run(["/bin/sh", "-c", script], env=environ, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


# --- the curl line


@pytest.mark.parametrize("name", ["vigil-data", "with spaces", 'it\'s $(HOME) `x` "y"'])
def test_a_shell_reads_the_key_whatever_the_directory_is_called(tmp_path: Path, name: str) -> None:
    data_dir = tmp_path / name
    open_data_dir(data_dir)
    ensure_default_key(data_dir, created=TODAY, random_bytes=os.urandom)
    line = curl_line("http://127.0.0.1:3000", load_settings({"data_dir": str(data_dir)}))
    assert line is not None
    key = clear_key_file(data_dir).read_text().strip()
    assert key not in line
    assert arguments_of(line, {"PATH": os.environ["PATH"]}) == [
        "-X",
        "POST",
        "http://127.0.0.1:3000/api/messaging/sessions",
        "-H",
        f"Authorization: Bearer {key}",
        "-H",
        "Content-Type: application/json",
        "-d",
        '{"agentId":"agent-123","userId":"user-456"}',
    ]


def test_the_curl_line_of_the_usual_directory_is_the_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_data_dir(Path("vigil-data"))
    ensure_default_key(Path("vigil-data"), created=TODAY, random_bytes=os.urandom)
    assert curl_line("http://127.0.0.1:3000", typed("")) == (
        "curl -X POST http://127.0.0.1:3000/api/messaging/sessions "
        '-H "Authorization: Bearer $(cat vigil-data/api-key)" '
        "-H 'Content-Type: application/json' "
        """-d '{"agentId":"agent-123","userId":"user-456"}'"""
    )


def test_the_curl_line_of_a_socket_file_leads_curl_through_it(tmp_path: Path) -> None:
    open_data_dir(tmp_path)
    ensure_default_key(tmp_path, created=TODAY, random_bytes=os.urandom)
    settings = load_settings({"data_dir": str(tmp_path), "root_path": "/chat"})
    line = curl_line("unix:/tmp/a b.sock", settings)
    assert line is not None
    words = arguments_of(line, {"PATH": os.environ["PATH"]})
    assert words[:5] == [
        "--unix-socket",
        "/tmp/a b.sock",  # noqa: S108  a name like any other
        "-X",
        "POST",
        "http://localhost/chat/api/messaging/sessions",
    ]


def test_a_base_url_ends_with_the_root_path_and_a_socket_file_has_none() -> None:
    assert base_url("http://h:1", "/chat") == "http://h:1/chat"
    assert base_url("unix:/s", "/chat") == "unix:/s"


def test_the_curl_line_takes_the_environments_key_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "a-key-from-the-environment"
    monkeypatch.setenv("VIGIL_API_KEY", key)
    line = curl_line("http://h", load_settings({"data_dir": str(tmp_path)}), "it's-an-agent")
    assert line is not None
    assert key not in line
    sent = arguments_of(line, {"VIGIL_API_KEY": key})
    assert sent[4] == f"Authorization: Bearer {key}"
    assert sent[-1] == '{"agentId":"it\'s-an-agent","userId":"user-456"}'


def test_without_a_key_in_clear_there_is_no_curl_line(tmp_path: Path) -> None:
    new_key(tmp_path, "reader", ["sessions:read"], created=TODAY, random_bytes=os.urandom)
    assert curl_line("http://h", load_settings({"data_dir": str(tmp_path)})) is None
