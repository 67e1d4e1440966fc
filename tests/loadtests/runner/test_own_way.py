"""Locust run in its own way: `locust -f loadtests/locustfile.py`. The verdict decides how it exits."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import ROOT
from tests.process import KEY, running_server
from vigil.loadtests.runner import processes
from vigil.loadtests.verdict.verdict import Exit

ROOT = ROOT
AGENTS = json.dumps({"agents": [{"id": "agent-123", "name": "one", "kind": "none"}]})


def started(*flags: str, key: str = KEY) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "locust", "-f", str(processes.LOCUSTFILE), "--only-summary", *flags]
    environ = {**os.environ, "VIGIL_API_KEY": key, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)


def locust(*flags: str, key: str = KEY) -> tuple[int, str]:
    """Its exit code and what it said."""
    with started("--headless", *flags, key=key) as process:
        out, _ = process.communicate(timeout=120)
    return process.returncode, out


@contextmanager
def server_with_a_limit_too_wide(tmp_path: Path) -> Iterator[str]:
    """It admits 61 a minute, and says so."""
    (tmp_path / "agents.yaml").write_text(AGENTS)
    flags = ("--session-limit=61/minute", f"--agents={tmp_path / 'agents.yaml'}", "--store=memory:")
    with running_server(tmp_path / "data", *flags) as server:
        yield server.url


@pytest.mark.parametrize("workers", [(), ("--processes=2",)])
def test_a_verdict_of_failed_is_the_exit_code_1_with_workers_too(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    with server_with_a_limit_too_wide(tmp_path) as url:
        code, out = locust(f"--host={url}", "-u8", "-r8", "-t3s", *workers)
    assert re.search(r"^FAILED$", out, re.MULTILINE)
    assert code == Exit.FAILED


def test_an_honest_server_at_another_time_scale_does_not_fail(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--time-scale=300", "--store=memory:") as server:
        code, out = locust(f"--host={server.url}", "-u20", "-r20", "-t5s", "Chatter")
    assert "RateLimit" not in out.rpartition("requests/s")[2]
    assert code in {Exit.HELD, Exit.OVERLOADED}
    assert "time scale 300" in out


def test_too_few_requests_are_an_incomplete_run(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--store=memory:") as server:
        code, out = locust(f"--host={server.url}", "-u2", "-r2", "-t2s")
    assert "INCOMPLETE: " in out
    assert code == Exit.INCOMPLETE


def test_a_run_interrupted_before_its_time_is_130_and_judged(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", "--store=memory:") as server,
        started("--headless", f"--host={server.url}", "-u2", "-r2", "-t10m") as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if "All users spawned" in line:
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert "INCOMPLETE: interrupted after " in out
    assert process.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("flags", "key", "code", "told"),
    [
        (("--headless", "-t5s", "--host=http://127.0.0.1:9"), "", 2, "the API key is missing"),
        (("--web-port=0",), "", 2, "the API key is missing"),
        (("--headless", "-t5s", "--host=http://127.0.0.1:9"), KEY, 4, "nothing answers at"),
        (("--headless", "-t5s"), KEY, 2, "no server was named"),
    ],
)
def test_what_could_only_fail_is_refused_in_one_line(
    flags: tuple[str, ...], key: str, code: int, told: str
) -> None:
    with started(*flags, "--loglevel=WARNING", key=key) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert out.startswith(f"vigil: {told}")
    assert out.count("\n") == 1


def test_a_refusal_leaves_no_workers_behind() -> None:
    with started("--headless", "--host=http://127.0.0.1:9", "--processes=2", key="") as process:
        out, _ = process.communicate(timeout=60)  # the workers hold the pipe, too
    assert process.returncode == Exit.USAGE
    assert "the API key is missing" in out
    assert not [one for one in psutil.process_iter() if _is_of(process.pid, one)]


def _is_of(group: int, process: psutil.Process) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.pid != os.getpid()
    except (ProcessLookupError, psutil.Error):
        return False
