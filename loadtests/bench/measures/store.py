"""Commits a second of the stores, by how many callers want one at the same time.

    python -m vigil.loadtests.bench.measures.store [--callers 1,8,32,128,256] [--seconds 1] [--rounds 5]

A commit here is what a sent message writes: a session's record and a message. `batch` is how many of them shared a
transaction and its fsync. Beside it a plain append and fsync on the same disk: no store can be faster with one caller.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TypedDict
from uuid import UUID

import trio

from vigil.actors.core.records import Anchor, Message, Session, TimeoutConfig
from vigil.actors.stores.base import InsertMessage, InsertSession, Store, UpdateSession
from vigil.actors.stores.memory import MemoryStore
from vigil.actors.stores.sqlite.store import SqliteStore
from vigil.loadtests.bench.figures import Figure, figure
from vigil.loadtests.bench.in_process import repeat, wall_ms
from vigil.loadtests.bench.rig import generator_pinned

CALLERS = (1, 8, 32, 128, 256)
_CONFIG = TimeoutConfig(30, True, 180, 5)
_WRITES = 2  # of a commit


class Row(TypedDict):
    per_s: Figure
    batch: Figure


def measure(callers: Sequence[int], *, seconds: float, rounds: int) -> dict[str, dict[str, Row]]:
    """For each store, by callers. Store and callers share one core, as in a server."""
    with generator_pinned(), tempfile.TemporaryDirectory() as directory:
        return trio.run(_measure, Path(directory), callers, seconds, rounds)


def fsync_ms(directory: Path, count: int = 50) -> float:
    """The median of what an append of 4 KiB with its fsync takes on this disk, in milliseconds."""
    took_s = []
    with (directory / "fsync").open("ab", buffering=0) as file:
        for _ in range(count):
            began_s = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            took_s.append(time.perf_counter() - began_s)
    return round(median(took_s) * 1000, 3)


async def _measure(
    directory: Path, callers: Sequence[int], seconds: float, rounds: int
) -> dict[str, dict[str, Row]]:
    async with (
        _opened(SqliteStore(directory / "bench.db"), max(callers)) as sqlite,
        _opened(MemoryStore(), max(callers)) as memory,
    ):
        stores = {"sqlite": sqlite, "memory": memory}
        taken = [
            {(name, n): await _once(store, n, seconds) for n in callers for name, store in stores.items()}
            for _ in range(rounds)
        ]
    return {name: {str(n): _row([one[name, n] for one in taken]) for n in callers} for name in stores}


def _row(taken: Sequence[tuple[float, float]]) -> Row:
    return {
        "per_s": figure([per_s for per_s, _ in taken], digits=0),
        "batch": figure([batch for _, batch in taken], digits=1),
    }


async def _once(store: Store, callers: int, seconds: float) -> tuple[float, float]:
    """Commits a second, and how many went together."""
    before = store.statistics()

    async def commit(n: int) -> None:
        now = wall_ms()
        session = _session(n % callers, now)
        message = Message(str(UUID(int=n)), now * 1000 + n % 1000, "user", False, _CONTENT, "{}", "")
        await store.commit([UpdateSession(session), InsertMessage(session.key, message, "")])

    per_s = await repeat(commit, callers, seconds)
    after = store.statistics()
    commits = after.commits - before.commits
    return per_s, (after.writes - before.writes) / _WRITES / max(commits, 1)


_CONTENT = "The quick brown fox jumps over the lazy dog, twice a day."


@asynccontextmanager
async def _opened(store: Store, sessions: int) -> AsyncIterator[Store]:
    now = wall_ms()
    await store.start(lambda: Anchor(now, now))
    await store.commit([InsertSession(_session(n, now)) for n in range(sessions)])
    yield store
    await store.close()


def _session(n: int, now: int) -> Session:
    session_id = str(UUID(int=n))
    return Session(n + 1, session_id, "silent", f"user-{n}", session_id, "{}", now, now, now, _CONFIG)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.store")
    parser.add_argument(
        "--callers", default=",".join(map(str, CALLERS)), help="at once, with commas between them"
    )
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement (1)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (5)")
    typed = parser.parse_args(argv)
    callers = [int(n) for n in typed.callers.split(",")]
    print(json.dumps(measure(callers, seconds=typed.seconds, rounds=typed.rounds), indent=2))


if __name__ == "__main__":
    main()
