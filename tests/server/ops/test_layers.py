"""Settings out of files: `.env`, `--config vigil.toml`, and what `vigil config` says of them."""

import json
from pathlib import Path

import pytest

from tests.process import running_server
from vigil import __main__ as vigil
from vigil.server.settings import layers
from vigil.server.settings.loading import SettingsError, load_settings
from vigil.server.settings.rows import SETTINGS


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in SETTINGS:
        monkeypatch.delenv(row.env, raising=False)
    monkeypatch.chdir(tmp_path)


def config(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, tuple[str, str]]:
    """Value and source of each setting, as `vigil config --json` tells."""
    assert vigil.main(["config", "--json", *words]) == 0
    lines = json.loads(capsys.readouterr().out)
    return {line["setting"]: (line["value"], line["source"]) for line in lines}


def test_each_place_beats_the_one_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("vigil.toml").write_text("port = 1\ngrace_s = 1\nunsent_mib = 1\nsession_max = 1\n")
    Path(".env").write_text("VIGIL_PORT=2\nVIGIL_GRACE_S=2\nVIGIL_UNSENT_MIB=2\n")
    monkeypatch.setenv("VIGIL_PORT", "3")
    monkeypatch.setenv("VIGIL_GRACE_S", "3")
    shown = config(capsys, "--config", "vigil.toml", "--port", "4")
    assert shown["port"] == ("4", "--port")
    assert shown["grace_s"] == ("3.0", "VIGIL_GRACE_S")
    assert shown["unsent_mib"] == ("2", ".env: VIGIL_UNSENT_MIB")
    assert shown["session_max"] == ("1", "vigil.toml: session_max")
    assert shown["host"] == ("127.0.0.1", "default")


def test_every_setting_is_shown_and_no_secret_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIGIL_API_KEY", "a-key-that-nobody-may-see")
    assert vigil.main(["config"]) == 0
    text = capsys.readouterr().out
    assert "a-key-that" not in text
    assert [line.split()[0] for line in text.splitlines()[1:]] == [row.name for row in SETTINGS]


def test_toml_has_lists_and_truth_values(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.toml").write_text('host = ["127.0.0.1", "::1"]\nrecord_content = true\nuser_limit = "9/hour"\n')
    Path(".env").write_text("VIGIL_CONFIG=a.toml\n")
    shown = config(capsys)
    assert shown["host"][0] == "127.0.0.1,::1"
    assert shown["record_content"][0] == "true"
    assert shown["user_limit"] == ("9/hour", "a.toml: user_limit")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("prot = 3", "a.toml: there is no setting 'prot': did you mean port?"),
        ("data-dir = 'x'", "a.toml: there is no setting 'data-dir': did you mean data_dir?"),
        ("port = true", "a.toml: port: 'true' is not a whole number from 0 to 65535"),
        ("port = 1.5", "a.toml: port: '1.5' is not a whole number from 0 to 65535"),
        ("port = {}", "a.toml: port is neither a text"),
        ("port = ", "a.toml cannot be read: "),
        ("api_key = 'short'", "a.toml: api_key: its value (not shown) is not 16 or more"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(
    content: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.toml").write_text(content)
    assert vigil.main(["serve", "--config", "a.toml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"vigil: {told}")
    assert len(said.splitlines()) == 1


def test_a_file_that_is_not_there_is_an_error_when_it_was_named() -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        layers.read(Path("none.toml"), {})


def test_what_dotenv_has_for_other_programs_is_none_of_our_business(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path(".env").write_text("DATABASE_URL=x\nVIGIL_PROT=3\nexport VIGIL_PORT='81'\n")
    assert vigil.main(["config"]) == 0
    said = capsys.readouterr()
    assert said.err == (
        "vigil: .env: The environment variable VIGIL_PROT is not a setting: did you mean VIGIL_PORT?\n"
    )
    assert "81     " in said.out


def test_an_environment_that_names_a_setting_in_small_letters_still_beats_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("VIGIL_PORT=2\n")
    monkeypatch.setenv("vigil_port", "3")
    files = layers.read(None, {"vigil_port": "3"})
    assert load_settings({}, files.below).port == 3


def test_the_keys_commands_work_in_the_directory_that_the_file_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("a.toml").write_text('data_dir = "elsewhere"')
    assert vigil.main(["keys", "new", "x", "--scope", "sessions:read", "--config", "a.toml"]) == 0
    assert Path("elsewhere/keys.json").exists()


def test_a_server_is_started_with_what_the_file_says(tmp_path: Path) -> None:
    Path("a.toml").write_text('root_path = "/chat"\nstore = "memory:"')
    with running_server(tmp_path / "data", "--config=a.toml") as server:
        assert server.url.endswith("/chat")
