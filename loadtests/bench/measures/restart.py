"""How long a server needs from its start until it serves what is stored.

    python -m vigil.loadtests.bench.measures.restart [--sessions 100000]

Fills a SQLite store with live sessions, then starts `vigil serve` on it as a user would, several times, and
measures until the first of those sessions is answered. Seconds of real time, on whatever else the machine does.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from uuid import UUID

import trio

from vigil.actors.core.records import Anchor, Session, TimeoutConfig
from vigil.actors.stores.base import InsertSession
from vigil.actors.stores.sqlite.store import SqliteStore
from vigil.loadtests.bench.rig import BASE, KEY

CONFIG = TimeoutConfig(1440, True, 4320, 5)
_CHUNK = 5000


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.restart")
    parser.add_argument("--sessions", type=int, default=100_000, help="stored sessions (100000)")
    parser.add_argument("--runs", type=int, default=3, help="starts to measure (3)")
    typed = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory)
        trio.run(_fill, data_dir / "vigil.db", typed.sessions)
        seconds = [_start(data_dir) for _ in range(typed.runs)]
    print(json.dumps({"sessions": typed.sessions, "seconds": seconds, "median_s": median(seconds)}, indent=2))


async def _fill(path: Path, sessions: int) -> None:
    now = time.time_ns() // 1_000_000
    store = SqliteStore(path)
    await store.start(lambda: Anchor(now, now))
    for first in range(0, sessions, _CHUNK):
        chunk = range(first, min(first + _CHUNK, sessions))
        await store.commit([InsertSession(_session(n, now)) for n in chunk])
    await store.close()


def _session(n: int, now: int) -> Session:
    session_id = str(UUID(int=n))
    return Session(n + 1, session_id, "agent-123", f"user-{n}", session_id, "{}", now, now, now, CONFIG)


def _start(data_dir: Path) -> float:
    """Seconds from the start of the process to the first answer about a stored session."""
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "vigil",
        "serve",
        "--port=0",
        f"--data-dir={data_dir}",
        "--log-level=error",
    ]
    environ = {**os.environ, "VIGIL_API_KEY": KEY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True) as server:  # noqa: S603  ours
        assert server.stdout is not None  # piped
        match = re.search(r"http://\S+", server.stdout.readline())
        if match is None:
            raise SystemExit("the server did not start: see its words above")
        url = f"{match[0]}{BASE}/{UUID(int=0)}"
        request = urllib.request.Request(url, headers={"X-API-KEY": KEY})  # noqa: S310  to ourselves
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            answer.read()
        took = time.perf_counter() - began
        server.terminate()
    return round(took, 2)


if __name__ == "__main__":
    main()
