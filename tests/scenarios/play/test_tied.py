"""What a command has started ends with it, also when it is killed: real processes, of which nothing is left."""

import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from tests import ROOT

STARTING_S_MAX = 60


def _server_of(process: "subprocess.Popen[bytes]") -> psutil.Process:
    """Once it serves: before, it has its end like any Python program."""
    until_s = time.monotonic() + STARTING_S_MAX
    while time.monotonic() < until_s and process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if "serve" in child.cmdline() and child.net_connections():
                    return child
        time.sleep(0.05)
    raise AssertionError("it has started no server")


@pytest.mark.parametrize(
    "command",
    [
        "vigil load realistic --users=2 --run-time=10m",
        "vigil replay --serve scenarios/library",
        "vigil.loadtests.bench.measures.floods --part=floods --only=ws-pongs --seconds=60",
    ],
)
def test_after_a_kill_of_a_command_its_own_server_ends_too(command: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            server = _server_of(process)
        finally:
            process.kill()
    try:
        server.wait(timeout=30)
    finally:
        with suppress(psutil.NoSuchProcess):
            server.kill()
