"""Settings: values, names, ranges and refusals (spec sections 2, 3 and 6)."""

from pathlib import Path
from typing import Any

import pytest

from tests.server.ops.typed import FLAGS, refusal, typed
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutConfig
from vigil.server.settings.loading import SettingsError, load_settings, unknown_variables
from vigil.server.settings.rows import SETTINGS

pytestmark = pytest.mark.usefixtures("own_environment")


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
