"""A stop that cannot be finished, because the disk does not answer, is over all the same (spec section 10)."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.process import BASE, ServerProcess

GRACE_S = 0.3


def hanging_server(tmp_path: Path, what: str) -> ServerProcess:
    entry = (sys.executable, "-m", "tests.crash.hanging_disk", what, str(tmp_path / "hang"))
    return ServerProcess(tmp_path / "data", f"--grace-s={GRACE_S}", entry=entry)


def stopped_while_it_hangs(
    tmp_path: Path, server: ServerProcess, method: str, path: str
) -> tuple[int, float]:
    """Have a request hang, then SIGTERM. Gives the exit code and how long it took."""
    (tmp_path / "hang").touch()
    with server.client() as http, pytest.raises(httpx.HTTPError):
        http.request(method, path, json={"content": "never"} if method == "POST" else None, timeout=1)
    began_s = time.monotonic()
    try:
        return server.stop(signal.SIGTERM), time.monotonic() - began_s
    finally:
        server.process.kill()


def test_sigterm_while_a_commit_hangs_ends_after_the_grace_and_says_what_was_not_finished(
    tmp_path: Path,
) -> None:
    server = hanging_server(tmp_path, "COMMIT")
    with server.client() as http:
        session = http.post(BASE, json={"agentId": "agent-123", "userId": "user-456"}).json()
    code, took_s = stopped_while_it_hangs(tmp_path, server, "POST", f"{BASE}/{session['sessionId']}/messages")
    log = server.log.read_text()
    assert code == 1, log
    assert took_s >= GRACE_S, "whoever is under way has the grace period"
    last = log.splitlines()[-1]
    assert "before all was finished" in last
    assert "wait for a disk that does not answer" in last
    assert "Traceback" not in log


def test_sigterm_while_a_read_holds_the_event_loop_ends_all_the_same(tmp_path: Path) -> None:
    server = hanging_server(tmp_path, "READ")
    with server.client() as http:
        session = http.post(BASE, json={"agentId": "agent-123", "userId": "user-456"}).json()
    code, _ = stopped_while_it_hangs(tmp_path, server, "GET", f"{BASE}/{session['sessionId']}/messages")
    assert code == 1, server.log.read_text()
    assert "before all was finished" in server.log.read_text()


def test_a_stop_that_is_finished_in_time_is_not_cut_short(tmp_path: Path) -> None:
    server = hanging_server(tmp_path, "COMMIT")
    assert server.stop(signal.SIGTERM) == 0
    assert "before all was finished" not in server.log.read_text()


def test_the_signal_is_heard_before_anything_runs(tmp_path: Path) -> None:
    """While everything is still imported: the server then stops as soon as it can, with 0."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "vigil",
        "serve",
        "--port=0",
        f"--data-dir={tmp_path}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if "vigil.server.settings.settings" in line:
                break
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            server.send_signal(number)
        assert "Traceback" not in server.stderr.read()
        assert server.wait(60) == 0
