"""Damaged pages, lost files and full disks: who is told what, and who goes on undisturbed (spec section 10)."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.process import BASE, KEY, ServerProcess, running_server
from tests.process import NO_LIMITS as ANY_NUMBER

PAGE_BYTES = 1024
NO_LIMITS = (*ANY_NUMBER, "--log-level=error")


def create(http: httpx.Client) -> str:
    session_id: str = http.post(BASE, json={"agentId": "agent-123", "userId": "user-456"}).json()["sessionId"]
    return session_id


def say(
    http: httpx.Client, session_id: str, content: str = "hello", transport: str = "http"
) -> httpx.Response:
    body = {"content": content, "transport": transport}
    return http.post(f"{BASE}/{session_id}/messages", json=body)


def stopped_with_sessions(data_dir: Path, count: int, messages: int = 1) -> list[str]:
    """A data directory of a server that stopped cleanly, and the ids of its sessions."""
    with running_server(data_dir, *NO_LIMITS) as server, server.client() as http:
        ids = [create(http) for _ in range(count)]
        for session_id in ids:
            for _ in range(messages):
                say(http, session_id)
        assert server.stop(signal.SIGTERM) == 0
    return ids


def root_page(database: Path, name: str) -> int:
    with sqlite3.connect(database) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    connection.close()
    return int(page)


def spoil(database: Path, page: int) -> None:
    with database.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)


def first_leaf(database: Path, table: str) -> int:
    """Found by its first byte: the store has no dbstat to ask."""
    data = database.read_bytes()
    page = root_page(database, table)
    while data[at := (page - 1) * PAGE_BYTES] in {5, 2}:  # an interior page: its first child
        cell = int.from_bytes(data[at + 12 : at + 14], "big")
        page = int.from_bytes(data[at + cell : at + cell + 4], "big")
    return page


def refused(data_dir: Path, *flags: str) -> str:
    """What a server that does not start says."""
    command = [sys.executable, "-m", "vigil", "serve", "--port=0", f"--data-dir={data_dir}", *flags]
    environ = {**os.environ, "VIGIL_API_KEY": KEY}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    return done.stderr


def health(http: httpx.Client) -> dict[str, Any]:
    body: dict[str, Any] = http.get(f"{BASE}/health").json()
    return body


def logged(server: ServerProcess, text: str) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if text in line]


# --- damaged pages


@pytest.mark.parametrize("table", ["sqlite_schema", "sessions", "turns"])
def test_a_damaged_root_page_is_named_with_what_to_do(tmp_path: Path, table: str) -> None:
    stopped_with_sessions(tmp_path / "data", 2)
    database = tmp_path / "data" / "vigil.db"
    page = 1 if table == "sqlite_schema" else root_page(database, table)
    with database.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES + (100 if page == 1 else 0))
        file.write(b"\xa5" * 64)
    (line,) = refused(tmp_path / "data").splitlines()
    assert f"pages of {database} are damaged" in line
    assert ".recover" in line


def test_a_truncated_database_is_named_with_what_to_do(tmp_path: Path) -> None:
    stopped_with_sessions(tmp_path / "data", 20)
    database = tmp_path / "data" / "vigil.db"
    os.truncate(database, 3 * PAGE_BYTES)
    assert f"pages of {database} are damaged" in refused(tmp_path / "data")


def test_a_damaged_leaf_is_500_on_its_session_counted_and_said_once(tmp_path: Path) -> None:
    bad, good = stopped_with_sessions(tmp_path / "data", 2, messages=12)
    database = tmp_path / "data" / "vigil.db"
    spoil(database, first_leaf(database, "messages"))  # of the first session's first message
    with running_server(tmp_path / "data", *NO_LIMITS) as server, server.client() as http:
        assert health(http)["status"] == "healthy"
        for _ in range(3):
            answer = http.get(f"{BASE}/{bad}/messages")
            assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
            assert "damaged" not in answer.text, "no detail leaks"
        body = health(http)
        assert (body["status"], body["invalidSessions"], body["activeSessions"]) == ("degraded", 1, 1)
        assert len(logged(server, "its pages are damaged")) == 1
        assert not logged(server, "a request crashed")
        assert say(http, good).status_code == 201
        answer = http.get(f"{BASE}/{good}/messages?limit=100")
        assert answer.status_code == 200, server.log.read_text()
        assert len(answer.json()["messages"]) == 26
        assert http.delete(f"{BASE}/{bad}").status_code == 200
        assert http.get(f"{BASE}/{bad}").status_code == 404
        assert health(http)["status"] == "healthy"
        time.sleep(0.1)  # what it has left behind cannot be erased, and holds nobody up
        assert http.delete(f"{BASE}/{good}").status_code == 200
        assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.log.read_text()


def test_an_agents_turn_that_meets_a_damaged_history_takes_the_session_out_of_service(tmp_path: Path) -> None:
    (bad,) = stopped_with_sessions(tmp_path / "data", 1, messages=3)
    database = tmp_path / "data" / "vigil.db"
    spoil(database, first_leaf(database, "messages_in_order"))
    with running_server(tmp_path / "data", *NO_LIMITS) as server, server.client() as http:
        answer = say(http, bad)
        assert answer.status_code == 500
        assert health(http)["invalidSessions"] == 1
        other = create(http)  # its own messages stand elsewhere in the index, or meet the damage as well
        assert http.post(f"{BASE}/{other}/heartbeat").status_code == 200
        assert server.stop(signal.SIGTERM) == 0
        assert not logged(server, "crashed")


def test_damaged_tombstones_are_left_out_and_the_rest_is_there(tmp_path: Path) -> None:
    flags = ("--time-scale=3000", *NO_LIMITS)
    with running_server(tmp_path / "data", *flags) as server, server.client() as http:
        body = {"agentId": "agent-123", "userId": "user-456", "timeoutConfig": {"timeoutMinutes": 5}}
        ids = [http.post(BASE, json=body).json()["sessionId"] for _ in range(60)]
        until = time.monotonic() + 20
        while health(http)["activeSessions"] and time.monotonic() < until:
            time.sleep(0.05)
        assert server.stop(signal.SIGTERM) == 0
    database = tmp_path / "data" / "vigil.db"
    spoil(database, first_leaf(database, "tombstones"))
    with (
        running_server(tmp_path / "data", "--time-scale=0.001", *NO_LIMITS) as server,
        server.client() as http,
    ):
        known = sum(http.get(f"{BASE}/{session_id}").status_code == 410 for session_id in ids)
        assert 40 <= known < 60
        assert logged(server, "damaged pages are left out")
        assert http.get(f"{BASE}/{create(http)}").status_code == 200
        assert server.stop(signal.SIGTERM) == 0


# --- lost files


def test_a_data_directory_that_was_removed_shows_in_health_and_nothing_is_acknowledged(
    tmp_path: Path,
) -> None:
    with running_server(tmp_path / "data") as server, server.client() as http:
        session_id = create(http)
        away = (tmp_path / "data").rename(tmp_path / "away")
        time.sleep(1)  # a probe is a second old at most
        answer = http.get(f"{BASE}/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
        answer = say(http, session_id)
        assert (answer.status_code, answer.json()["code"]) == (503, "STORE_UNAVAILABLE")
        assert logged(server, "its file was removed or replaced while the server ran")
        away.rename(tmp_path / "data")
        time.sleep(1)
        assert health(http)["status"] == "healthy"
        assert say(http, session_id).status_code == 201
        assert server.stop(signal.SIGTERM) == 0


def test_keys_stay_in_force_when_the_whole_directory_has_gone(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", environ={"VIGIL_API_KEY": None}) as server:
        key = (tmp_path / "data" / "api-key").read_text().strip()
        shutil.rmtree(tmp_path / "data")
        time.sleep(1)
        answer = httpx.get(f"{server.url}{BASE}/health", headers={"X-API-KEY": key})
        assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")


@pytest.mark.parametrize("what", ["emptied", "removed", "without tables"])
def test_a_database_that_has_vanished_is_refused_until_the_owner_says_so(tmp_path: Path, what: str) -> None:
    stopped_with_sessions(tmp_path / "data", 1)
    database = tmp_path / "data" / "vigil.db"
    database.unlink()
    if what != "removed":
        database.touch()
    if what == "without tables":
        sqlite3.connect(database).execute("VACUUM").connection.close()
    for _ in range(2):
        (line,) = refused(tmp_path / "data").splitlines()
        assert f"{database} is empty or not there" in line
        assert line.endswith(f"rm {tmp_path / 'data' / 'database'}")
    (tmp_path / "data" / "database").unlink()
    with running_server(tmp_path / "data") as server, server.client() as http:
        assert health(http)["status"] == "healthy"


def test_a_first_start_that_was_killed_locks_nobody_out(tmp_path: Path) -> None:
    """Whatever it had made by then: the note that there is a database comes after the database."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(0o700)
    (data_dir / "secret").write_bytes(b"s" * 32)
    (data_dir / "vigil.db").touch()
    with running_server(data_dir) as server, server.client() as http:
        assert health(http)["status"] == "healthy"


def test_another_database_or_none_may_be_named_at_any_time(tmp_path: Path) -> None:
    stopped_with_sessions(tmp_path / "data", 1)
    for store in ("memory:", f"sqlite:{tmp_path / 'other.db'}", f"sqlite:{tmp_path / 'data' / 'vigil.db'}"):
        with running_server(tmp_path / "data", f"--store={store}") as server, server.client() as http:
            assert health(http)["status"] == "healthy"


# --- full disks and read-only ones


@contextmanager
def small_disk(place: Path, size: str = "2M") -> Iterator[Path]:
    place.mkdir()
    if os.geteuid() or not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)):
        pytest.skip("only the superuser can mount a small disk")
    try:
        yield place
    finally:
        subprocess.run([shutil.which("umount") or "", "-l", place], check=True)


def mount(*words: str) -> bool:
    command = shutil.which("mount")
    return command is not None and not subprocess.run([command, *words], check=False).returncode


def test_on_a_nearly_full_disk_health_is_as_bad_as_sends_are(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk") as disk,
        running_server(disk / "data", *NO_LIMITS, f"--log-file={tmp_path}/log") as server,
        server.client() as http,
    ):
        session_id = create(http)
        filler = (disk / "filler").open("wb", buffering=0)
        free = os.statvfs(disk)
        filler.write(bytes(free.f_bavail * free.f_frsize - 16_384))
        statuses = set()
        for _ in range(100):
            answer = say(http, session_id, "x" * 5000, "websocket")
            statuses.add(answer.status_code)
            if answer.status_code == 503:
                break
        assert statuses == {201, 503}
        time.sleep(1)
        answer = http.get(f"{BASE}/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
        os.ftruncate(filler.fileno(), 0)
        filler.close()
        time.sleep(1)
        assert health(http)["status"] == "healthy"
        assert say(http, session_id).status_code == 201
        assert server.stop(signal.SIGTERM) == 0


def test_a_read_only_disk_is_said_in_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        stopped_with_sessions(disk / "data", 1)
        assert mount("-o", "remount,ro", str(disk))
        (line,) = refused(disk / "data").splitlines()
        assert "Read-only file system" in line


def test_a_full_disk_at_the_start_is_said_in_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "filler").write_bytes(b"x" * 60_000)
        (line,) = refused(disk / "data").splitlines()
        assert "full" in line or "No space left" in line
