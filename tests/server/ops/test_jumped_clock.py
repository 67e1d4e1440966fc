"""docs/operate.md, on a server whose clock once said 2218."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx

from tests.process import BASE, running_server

YEAR_2218_MS = 7_830_000_000_000
FLAG = "--log-level=error"


def jump(data_dir: Path) -> None:
    """What a server leaves that ran while the clock was wrong."""
    with sqlite3.connect(data_dir / "vigil.db") as store:
        store.execute("UPDATE anchors SET wall_ms = ?, session_ms = ?", (YEAR_2218_MS, YEAR_2218_MS))
    store.close()


def back_up(store: Path, to: Path) -> None:
    """By SQLite itself: a copy of the file alone lacks what is only in its log."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def created(http: httpx.Client) -> dict[str, str]:
    body = {"agentId": "agent-123", "userId": "user-456"}
    session: dict[str, str] = http.post(BASE, json=body).raise_for_status().json()
    return session


def test_session_time_stays_where_a_wrong_clock_brought_it_until_it_is_undone(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup.db"
    with running_server(data, FLAG) as server, server.client() as http:
        before = created(http)
    back_up(data / "vigil.db", backup)
    jump(data)
    with running_server(data, FLAG) as server, server.client() as http:
        assert created(http)["createdAt"][:2] == "22"
        assert http.get(f"{BASE}/{before['sessionId']}").status_code == 404  # 410 for a day

    for file in data.glob("vigil.db-*"):
        file.unlink()
    shutil.copy(backup, data / "vigil.db")
    with running_server(data, FLAG) as server, server.client() as http:
        assert created(http)["createdAt"][:2] == "20"
        assert http.get(f"{BASE}/{before['sessionId']}").status_code == 200

    jump(data)
    for file in (*data.glob("vigil.db*"), data / "database"):
        file.unlink()
    with running_server(data, FLAG) as server, server.client() as http:
        assert created(http)["createdAt"][:2] == "20"
