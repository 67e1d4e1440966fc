"""Signals to `vigil load` alone: real processes, of which nothing is left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests import ROOT

ROOT = ROOT


@contextmanager
def running(home: Path, *flags: str) -> Iterator["subprocess.Popen[str]"]:
    """`vigil load` with a server of its own, for longer than any test takes. Temporary files are in `home`."""
    command = [
        sys.executable,
        "-m",
        "vigil",
        "load",
        *flags,
        "--run-time=10m",
        f"--json={home / 'found.json'}",
    ]
    environ = {**os.environ, "TMPDIR": str(home), "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environ, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def children(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def is_server(process: psutil.Process) -> bool:
    """There are others for a moment: libraries ask the system about itself when they are imported."""
    with suppress(psutil.Error):
        return "serve" in process.cmdline()
    return False


def err(process: "subprocess.Popen[str]") -> IO[str]:
    assert process.stderr is not None
    return process.stderr


def wait_for_requests(process: "subprocess.Popen[str]") -> None:
    """Until the progress shows people who have asked for something."""
    for line in err(process):
        if " 0 people" not in line and " 0 requests/s" not in line:
            return
    raise AssertionError("the run never began")


def left(home: Path) -> list[str]:
    return [path.name for path in home.iterdir() if path.name.startswith("vigil-load-")]


@pytest.mark.parametrize(
    ("flags", "number", "code"),
    [
        (("realistic", "--users=20", "--time-scale=60", "--processes=2"), signal.SIGINT, 130),
        (("spike", "--users=20", "--time-scale=60"), signal.SIGTERM, 143),
    ],
)
def test_one_signal_ends_all_processes_and_what_there_is_is_written(
    tmp_path: Path, flags: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    with running(tmp_path, *flags) as process:
        wait_for_requests(process)
        started = children(process)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "INCOMPLETE: interrupted after " in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["verdict"], found["exitCode"]) == ("incomplete", code)
    assert found["operations"]["create"]["requests"] > 0
    assert not any("were lost" in problem for problem in found["problems"])
    assert len(started) >= 2
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert left(tmp_path) == []


def test_a_second_signal_ends_them_at_once_also_when_one_of_them_hangs(tmp_path: Path) -> None:
    with running(tmp_path, "realistic", "--users=5") as process:
        wait_for_requests(process)
        started = children(process)
        for child in started:
            child.suspend()
        while process.poll() is None:  # two that come at the same moment are one
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=0.1)
    assert process.returncode == 130
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert not (tmp_path / "found.json").exists()
    assert left(tmp_path) == []


def test_a_signal_before_the_run_has_begun_leaves_nothing_running(tmp_path: Path) -> None:
    with running(tmp_path, "realistic", "--users=5") as process:
        while not any(map(is_server, children(process))):
            assert process.poll() is None
        started = children(process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "INCOMPLETE: interrupted after 0 s of 600 s, with no requests sent\n"
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert left(tmp_path) == []
