"""What is shipped: the wheel in an empty environment, and files for containers, systemd and Kubernetes.

No container and no cluster runs here; what can be checked of their files without one is.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.process import BASE, KEY, ServerProcess
from vigil.server.api.routes import ROUTES
from vigil.server.ops import build
from vigil.server.settings.rows import SETTINGS

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SYSTEMD_ANALYZE = shutil.which("systemd-analyze") or ""
_OTHER_VARIABLES = {"VIGIL_CONFIG"}


# --- the wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and of ours only the dependencies."""
    place = tmp_path_factory.mktemp("wheel")
    clone = place / "clone"
    clone.mkdir()
    for name in ("actors", "server", "scenarios", "loadtests", "src"):
        shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    (clone / "src" / "vigil" / build.NOTE).write_text(COMMIT)
    _run(place, sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "dist", clone)
    _run(place, sys.executable, "-m", "venv", "--without-pip", place / "env")
    (wheel,) = (place / "dist").glob("*.whl")
    (packages,) = (place / "env").glob("lib/python*/site-packages")
    _run(place, sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, wheel)
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return place / "env" / "bin" / "python"


def _run(place: Path, *command: object) -> str:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("VIGIL_", "PYTHONPATH"))
    }
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=place, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_knows_its_commit(installed: Path, tmp_path: Path) -> None:
    assert _run(tmp_path, installed, "-m", "vigil", "--version").endswith(f"({COMMIT[:12]})\n")
    where = _run(tmp_path, installed, "-c", "import vigil.server; print(vigil.server.__file__)")
    assert str(installed.parents[1]) in where


def test_the_wheel_serves_with_its_documentation(installed: Path, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", entry=(str(installed), "-m", "vigil"))
    try:
        with httpx.Client(base_url=server.url, headers={"X-API-KEY": KEY}) as http:
            assert http.post(BASE, json={"agentId": "agent-123", "userId": "u"}).status_code == 201
            assert http.get("/docs").status_code == 200
    finally:
        assert server.stop() == 0


def test_the_wheel_plays_its_library_and_simulates(installed: Path, tmp_path: Path) -> None:
    assert "1 held" in _run(tmp_path, installed, "-m", "vigil", "replay", "--library", "warnings")
    _run(tmp_path, installed, "-m", "vigil", "simulate", "--people", "5", "--hours", "1")


def test_the_wheel_brings_the_pytest_plugin(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(virtual_vigil):\n    virtual_vigil.advance('3h')\n")
    assert "1 passed" in _run(tmp_path, installed, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_a_clone_reads_its_commit_from_gits_own_files(tmp_path: Path) -> None:
    git, tree = tmp_path / "main.git", tmp_path / "main.git" / "worktrees" / "w"
    (git / "refs" / "heads").mkdir(parents=True)
    tree.mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs\n{COMMIT} refs/heads/main\n")
    assert build._of_clone(git) == COMMIT
    (git / "refs" / "heads" / "w").write_text("f" * 40)
    (tree / "HEAD").write_text("ref: refs/heads/w\n")
    (tree / "commondir").write_text("../..\n")
    (tmp_path / ".git").write_text(f"gitdir: {tree}\n")
    assert build._of_clone(tmp_path / ".git") == "f" * 40
    (git / "HEAD").write_text(COMMIT)
    assert build._of_clone(git) == COMMIT


# --- files for what runs it


def test_every_setting_that_is_named_exists() -> None:
    known = {row.env for row in SETTINGS} | _OTHER_VARIABLES
    for file in (path for path in OPS.rglob("*") if path.is_file()):
        found = set(re.findall(r"\b(VIGIL_[A-Z_]+)\b", file.read_text()))
        assert found <= known, file


def test_the_image_runs_as_a_user_of_its_own_and_says_whether_it_is_well() -> None:
    lines = (OPS / "Dockerfile").read_text().splitlines()
    last = [
        line.split() for line in lines[max(n for n, line in enumerate(lines) if line.startswith("FROM")) :]
    ]
    words = {line[0]: line[1:] for line in last if line}
    assert words["USER"] == ["10001:10001"]
    assert words["ENTRYPOINT"] == ['["vigil"]']
    assert "HEALTHCHECK" in words
    copied = {
        word
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    assert {"actors", "server", "scenarios", "loadtests", "src"} <= copied


def test_compose_gives_a_root_that_cannot_be_written_and_no_rights() -> None:
    (service,) = yaml.safe_load((OPS / "compose.yaml").read_text())["services"].values()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def _manifests() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((OPS / "kubernetes.yaml").read_text())}


def test_kubernetes_asks_what_the_server_answers_and_runs_one_of_it() -> None:
    spec = _manifests()["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")
    (container,) = spec["template"]["spec"]["containers"]
    paths = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths <= {route.path for route in ROUTES}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    assert (
        spec["template"]["spec"]["terminationGracePeriodSeconds"] > 10 + 5
    )  # the grace, and what comes after it
    assert _manifests()["Service"]["spec"]["selector"] == spec["template"]["metadata"]["labels"]


@pytest.mark.skipif(not SYSTEMD_ANALYZE, reason="needs systemd-analyze")
def test_the_unit_is_well_formed_and_well_sandboxed(tmp_path: Path) -> None:
    unit = tmp_path / "vigil.service"
    unit.write_text((OPS / "vigil.service").read_text().replace("/opt/vigil/bin/vigil", "/bin/true"))
    done = subprocess.run([SYSTEMD_ANALYZE, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "vigil.service" not in done.stderr
    done = subprocess.run(
        [SYSTEMD_ANALYZE, "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    score = re.search(r"Overall exposure level for vigil.service: ([\d.]+)", done.stdout)
    if score is None:
        pytest.skip("this systemd-analyze cannot judge a file")
    assert float(score[1]) <= 1.5
