"""Settings and the command line made from them: the issue's flags, spec sections 2, 3 and 6."""

import argparse
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutConfig
from vigil.server.cli.command_line import (
    Command,
    add_keys_arguments,
    add_serve_arguments,
    base_url,
    command_parser,
    curl_line,
    run_keys,
    settings_table,
    typed_data_dir,
    typed_settings,
)
from vigil.server.cli.parser import Parser
from vigil.server.ops.data_dir import open_data_dir
from vigil.server.ops.keys import clear_key_file, ensure_default_key, new_key, read_keys
from vigil.server.ops.settings import SETTINGS, Settings, SettingsError, load_settings, unknown_variables

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
FLAGS = [row for row in SETTINGS if row.flag is not None]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of whoever runs the tests; the umask as it was."""
    for row in SETTINGS:
        monkeypatch.delenv(row.env, raising=False)
    umask = os.umask(0o022)
    yield
    os.umask(umask)


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


# --- values


def test_the_defaults_are_those_of_the_issue_and_of_section_3() -> None:
    settings = typed("")
    assert (settings.host, settings.port) == (("127.0.0.1",), 3000)
    assert settings.data_dir == Path("vigil-data")
    assert settings.database == Path("vigil-data/vigil.db")
    assert settings.session_limit == Limit(60, 60)
    assert settings.user_limit == Limit(1000, 3600)
    assert settings.agent_limit == Limit(5000, 3600)
    assert (settings.content_policy, settings.time_scale) == ("active", 1)
    assert (settings.log_format, settings.log_level, settings.grace_s) == ("auto", "info", 10)
    assert settings.timeout_defaults == TimeoutConfig(30, True, 180, 5)
    assert (settings.session_tombstone_minutes, settings.session_tombstone_max) == (1440, 1_000_000)
    assert settings.allow_origin == ()
    assert [settings.agents, settings.tls_cert, settings.tls_key, settings.api_key] == [None] * 4


def test_every_flag_of_the_issue_is_there(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    settings = typed(
        f"--host 0.0.0.0 --port 0 --store memory: --data-dir d --agents a.yaml --session-limit 1/second "
        f"--user-limit 2/minute --agent-limit 3/hour --content-policy off --time-scale 60 --session-max 9 "
        f"--allow-origin https://a.example https://b.example --tls-cert {tmp_path}/cert.pem "
        f"--tls-key {tmp_path}/cert.pem --log-format json --log-level debug"
    )
    assert (settings.host, settings.port, settings.database) == (("0.0.0.0",), 0, None)  # noqa: S104
    assert (settings.data_dir, settings.agents) == (Path("d"), Path("a.yaml"))
    assert settings.session_limit == Limit(1, 1)
    assert settings.user_limit == Limit(2, 60)
    assert settings.agent_limit == Limit(3, 3600)
    assert (settings.content_policy, settings.time_scale, settings.session_max) == ("off", 60, 9)
    assert settings.allow_origin == ("https://a.example", "https://b.example")
    assert settings.tls_cert == settings.tls_key == tmp_path / "cert.pem"
    assert (settings.log_format, settings.log_level) == ("json", "debug")


_OTHER_VALUES = {
    "host": "::1",
    "root_path": "/chat",
    "front": "quart",
    "tls_cert": __file__,
    "tls_key": __file__,
    "allow_origin": "https://a.example",
    "data_dir": "elsewhere",
    "store": "memory:",
    "agents": "agents.yaml",
    "content_policy": "off",
    "session_limit": "7/minute",
    "user_limit": "7/minute",
    "agent_limit": "7/minute",
    "session_default_auto_renew": "false",
    "record_content": "true",
    "log_format": "json",
    "log_level": "error",
}


@pytest.mark.parametrize("row", FLAGS, ids=lambda row: row.name)
def test_every_flag_has_its_environment_variable(row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    value = _OTHER_VALUES.get(row.name, "7")
    pair = row.name.startswith("tls_")
    monkeypatch.setenv(row.env, value)
    if pair:
        monkeypatch.setenv("VIGIL_TLS_CERT", value)
        monkeypatch.setenv("VIGIL_TLS_KEY", value)
    by_variable = getattr(typed(""), row.name)
    monkeypatch.delenv(row.env)
    by_flag = getattr(typed(f"{row.flag} {value}"), row.name)
    assert by_variable == by_flag
    if not pair:
        assert by_variable != getattr(typed(""), row.name)


def test_the_session_defaults_have_the_names_of_section_3() -> None:
    assert {row.env for row in SETTINGS if not row.env.startswith("VIGIL_")} == {
        "SESSION_DEFAULT_TIMEOUT_MINUTES",
        "SESSION_DEFAULT_AUTO_RENEW",
        "SESSION_MAX_DURATION_MINUTES",
        "SESSION_WARNING_THRESHOLD_MINUTES",
        "SESSION_TOMBSTONE_MINUTES",
        "SESSION_TOMBSTONE_MAX",
    }


def test_a_flag_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_PORT", "4000")
    monkeypatch.setenv("SESSION_DEFAULT_TIMEOUT_MINUTES", "40")
    assert typed("").port == 4000
    settings = typed("--port 5000 --session-default-timeout-minutes 50")
    assert (settings.port, settings.session_default_timeout_minutes) == (5000, 50)


def test_a_good_flag_beats_a_bad_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_PORT", "tcp://10.0.0.1:3000")
    assert typed("--port 5000").port == 5000


@pytest.mark.parametrize(
    ("store", "database"),
    [("memory:", None), ("sqlite:a.db", Path("a.db")), ("sqlite:/b c/d.db", Path("/b c/d.db"))],
)
def test_a_store_is_memory_or_a_sqlite_file(store: str, database: Path | None) -> None:
    assert load_settings({"store": store}).database == database


def test_the_database_is_in_the_data_directory_unless_a_store_is_named() -> None:
    assert typed("--data-dir elsewhere").database == Path("elsewhere/vigil.db")


def test_origins_may_repeat_the_flag_and_are_kept_as_browsers_send_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert typed(
        "--allow-origin HTTPS://A.example:443 --allow-origin http://b:80 http://[::1]:8080"
    ).allow_origin == (
        "https://a.example",
        "http://b",
        "http://[::1]:8080",
    )
    monkeypatch.setenv("VIGIL_ALLOW_ORIGIN", "https://a.example, http://b:8080")
    assert typed("").allow_origin == ("https://a.example", "http://b:8080")


def test_hosts_may_repeat_the_flag_and_stand_in_brackets_or_be_socket_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert typed("--host [::1] --host :: --host a.example --host unix:/run/vigil.sock").host == (
        "::1",
        "::",
        "a.example",
        "unix:/run/vigil.sock",
    )
    monkeypatch.setenv("VIGIL_HOST", "127.0.0.1, [::1],unix:/run/vigil.sock")
    assert typed("").host == ("127.0.0.1", "::1", "unix:/run/vigil.sock")


@pytest.mark.parametrize(("given", "path"), [("/chat", "/chat"), ("/a/b/", "/a/b"), ("/", ""), ("", "")])
def test_a_root_path_has_no_slash_at_its_end(given: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_ROOT_PATH", given)
    assert typed("").root_path == path


# --- refusals


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("port", 0, 65_535),
        ("session_default_timeout_minutes", 5, 1440),
        ("session_max_duration_minutes", 1, 4320),
        ("session_warning_threshold_minutes", 1, 60),
        ("session_tombstone_minutes", 1, 525_600),
        ("session_tombstone_max", 1, 100_000_000),
        ("session_max", 1, 100_000_000),
    ],
)
def test_whole_numbers_have_ranges_and_the_error_says_which(name: str, lowest: int, highest: int) -> None:
    for good in (lowest, highest):
        assert getattr(load_settings({name: str(good)}), name) == good
    for bad in (lowest - 1, highest + 1, f"{lowest + 1}.5", "many", ""):
        with pytest.raises(SettingsError) as error:
            load_settings({name: str(bad)})
        flag = f"--{name.replace('_', '-')}"
        assert str(error.value) == f"{flag}: '{bad}' is not a whole number from {lowest} to {highest}"


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("time_scale", ("0", "-1", "100001", "nan", "inf", "fast"), "a number above 0 to 100000"),
        ("grace_s", ("-1", "3601", "nan", "inf"), "a number from 0 to 3600"),
        ("session_limit", ("60", "0/minute", "-1/hour", "60/day", "60 / minute", ""), "COUNT/second"),
        ("content_policy", ("on", "ACTIVE", ""), "active or off"),
        ("log_format", ("xml",), "auto, json or text"),
        ("log_level", ("loud", "INFO"), "debug, info, warning or error"),
        (
            "store",
            ("memory", "sqlite:", "sqlite::memory:", "redis://x", "", "vigil.db"),
            "sqlite:PATH or memory:",
        ),
        ("session_default_auto_renew", ("perhaps", ""), "true or false"),
        (
            "host",
            ("", "two words", "http://a", "a,", "[a]", "[::1", "unix:"),
            "a host name, an address or unix:PATH",
        ),
        ("root_path", ("chat", "/a//b", "/a b", "/a?b", "http://a/b", "/%61"), "a path such as /chat"),
        ("data_dir", ("",), "a path"),
        ("agents", ("",), "a path"),
        ("tls_cert", ("/no/such/file", "/", ""), "a file that exists"),
        (
            "allow_origin",
            (
                "*",
                "null",
                "a.example",
                "https://a.example/",
                "https://u@a.example",
                "https://a b",
                "https://a,",
                "",
            ),
            "a list of origins",
        ),
    ],
)
def test_a_bad_value_is_one_line_that_names_variable_value_and_what_is_allowed(
    name: str, values: tuple[str, ...], allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(row for row in SETTINGS if row.name == name)
    for value in values:
        monkeypatch.setenv(row.env, value)
        with pytest.raises(SettingsError) as error:
            typed("")
        (line,) = str(error.value).splitlines()
        assert line.startswith(f"{row.env}: {value!r} is not {allowed}")


def test_a_value_with_line_breaks_is_still_one_line() -> None:
    with pytest.raises(SettingsError) as error:
        load_settings({"log_level": "a\nb" * 100})
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 250


def test_several_bad_values_are_a_line_each_by_the_name_they_were_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VIGIL_PORT", "http")
    monkeypatch.setenv("SESSION_WARNING_THRESHOLD_MINUTES", "61")
    monkeypatch.setenv("VIGIL_LOG_LEVEL", "info")
    with pytest.raises(SettingsError) as error:
        typed("--log-level loud")
    assert str(error.value).splitlines() == [
        "VIGIL_PORT: 'http' is not a whole number from 0 to 65535",
        "SESSION_WARNING_THRESHOLD_MINUTES: '61' is not a whole number from 1 to 60",
        "--log-level: 'loud' is not debug, info, warning or error",
    ]


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_certificate_and_key_go_together(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^--tls-cert and --tls-key [^\n]*both or none$"):
        load_settings({name: __file__})


@pytest.mark.parametrize("key", ["a" * 16, "Aa0._~-" * 3])
def test_a_key_from_the_environment_has_16_or_more_safe_characters(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIL_API_KEY", key)
    settings = typed("")
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == key
    assert key not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize(
    "key", ["", "a" * 15, "a" * 16 + " ", "a" * 16 + "\n", "a" * 16 + "/", "\u00e9" * 16]
)
def test_a_bad_key_from_the_environment_is_refused_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIL_API_KEY", key)
    with pytest.raises(SettingsError) as error:
        typed("")
    assert str(error.value) == (
        "VIGIL_API_KEY: its value (not shown) is not 16 or more characters out of A-Z a-z 0-9 . _ ~ -"
    )
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_the_key_has_no_flag_so_that_no_process_list_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refusal("serve --api-key aaaaaaaaaaaaaaaa", capsys)
    assert code == 2
    assert "there is no option --api-key. See" in line


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("VIGIL_PROT", "did you mean VIGIL_PORT?"),
        ("VIGIL_SESSION_DEFAULT_TIMEOUT_MINUTES", "did you mean SESSION_DEFAULT_TIMEOUT_MINUTES?"),
        ("SESSION_WARNING_TRESHOLD_MINUTES", "did you mean SESSION_WARNING_THRESHOLD_MINUTES?"),
        ("VIGIL_COLOUR", "vigil serve --help"),
    ],
)
def test_a_variable_that_looks_like_a_setting_and_is_none_is_warned_of(name: str, hint: str) -> None:
    (line,) = unknown_variables({name: "secret", "HOME": "/", "SESSION_MANAGER": "x"})
    assert name in line
    assert hint in line
    assert "secret" not in line


def test_a_prefixed_session_default_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_SESSION_DEFAULT_TIMEOUT_MINUTES", "99")
    assert typed("").session_default_timeout_minutes == 30


def test_settings_and_what_kubernetes_sets_are_not_warned_of() -> None:
    others = ["VIGIL_SERVICE_HOST", "VIGIL_SERVICE_PORT_HTTP", "VIGIL_PORT_3000_TCP_ADDR", "VIGIL_PROVE"]
    names = [row.env for row in SETTINGS] + others
    assert unknown_variables(dict.fromkeys(names, "")) == []


# --- the command line


def help_of(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(shlex.split(line))
    assert exit_.value.code == 0
    return capsys.readouterr().out


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


# --- the curl line


def arguments_of(line: str, environ: dict[str, str]) -> list[str]:
    """What a real shell makes of a curl line."""
    script = f'curl() {{ printf "%s\\n" "$@"; }}\n{line}'
    done = subprocess.run(["/bin/sh", "-c", script], env=environ, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


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
