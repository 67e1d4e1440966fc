"""The wheel as users have it: installed beside folders of theirs that are called `server`, `actors` and so on."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import ROOT

ROOMS = ("actors", "server", "loadtests", "scenarios")
SOURCES = (*ROOMS, "src", "pyproject.toml", "README.md", "LICENSE")
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds, built of a copy: a build leaves files beside its sources."""
    copy, site = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("site")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=_not_sources)
        else:
            shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    command = [
        *pip,
        "--no-compile",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
        str(copy),
    ]
    subprocess.run(command, check=True, timeout=TIMEOUT_S, capture_output=True)
    return site


def _not_sources(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.endswith(".egg-info")}


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """Where a user stands: in a project whose packages have our folders' names, and must never be imported."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text(f"raise SystemExit('the {room} of the user')\n")
    return tmp_path


@pytest.fixture
def environment(installed: Path) -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(installed), "VIGIL_API_KEY": "a-key-of-the-wheel-test"}


def _command(*words: str) -> list[str]:
    """`-m` puts the folder one stands in first on the path, which is the worst case."""
    return [sys.executable, "-m", "vigil", *words]


def test_the_wheel_puts_nothing_into_site_packages_but_vigil(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"vigil", "bin"}
    assert {path.name for path in (installed / "vigil").iterdir() if path.is_dir()} >= set(ROOMS)


def test_what_is_tried_here_is_the_wheel(
    installed: Path, users_folder: Path, environment: Mapping[str, str]
) -> None:
    ask = [sys.executable, "-c", "import vigil.server; print(vigil.server.__file__)"]
    done = subprocess.run(
        ask, cwd=users_folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    assert Path(done.stdout.strip()) == installed / "vigil" / "server" / "__init__.py"


def test_it_serves(users_folder: Path, environment: Mapping[str, str]) -> None:
    serve = subprocess.Popen(
        _command("serve", "--port=0", "--log-level=error"),
        cwd=users_folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert serve.stdout is not None
        assert serve.stdout.readline().startswith("Vigil is listening on http://127.0.0.1:")
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(TIMEOUT_S) == 0
    finally:
        serve.kill()
        serve.communicate()


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "--library", "burst_at_the_limit", "bad_input"),
        ("load", "realistic", "--users", "300", "--run-time", "3s"),
    ],
    ids=["replay", "load"],
)
def test_it_plays_scenarios_and_proves_limits(
    users_folder: Path, environment: Mapping[str, str], words: tuple[str, ...]
) -> None:
    done = subprocess.run(
        _command(*words),
        cwd=users_folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
