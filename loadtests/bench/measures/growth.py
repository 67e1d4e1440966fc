"""How cost grows: with the messages of a session, with listeners, with what a rate-limit window holds.

    python -m vigil.loadtests.bench.measures.growth [--rounds 5]

Messages: a send that waits for its fsync and the newest page, in process on SQLite, sessions of all sizes in turn; each
round has sessions of its own. Windows: one admission, with all three windows that full. Listeners: `listeners`, all on
one session.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypedDict
from uuid import UUID

import trio

from vigil.actors.core.commands import Send
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import Anchor, Message, Session, TimeoutConfig
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import InsertMessage, InsertSession, SaveWindow
from vigil.actors.stores.sqlite.store import SqliteStore
from vigil.loadtests.bench.figures import Figure, figure
from vigil.loadtests.bench.in_process import running, wall_ms
from vigil.loadtests.bench.measures import listeners
from vigil.loadtests.bench.rig import generator_pinned, pinned_server

MESSAGES = (10, 100, 1000, 10_000)
WINDOWS = (60, 1000, 5000, 100_000, 1_000_000)
LISTENERS = (10, 100, 1000)
_EACH = 20  # operations of a session in a round
_PAGE = 50
_CONFIG = TimeoutConfig(1440, True, 4320, 5)
_HOUR_MS = 3_600_000


class Found(TypedDict):
    """Microseconds by size; listeners as `listeners` has them, in milliseconds."""

    send_us: dict[str, Figure]
    page_us: dict[str, Figure]
    admit_us: dict[str, Figure]
    listeners: dict[str, dict[str, float]]


def measure(
    *,
    rounds: int,
    messages: Sequence[int] = MESSAGES,
    windows: Sequence[int] = WINDOWS,
    heard_by: Sequence[int] = LISTENERS,
) -> Found:
    """All of it. Raises BenchError."""
    with generator_pinned(), tempfile.TemporaryDirectory() as directory:
        sends, pages = trio.run(_messages, Path(directory, "bench.db"), messages, rounds)
        admits = {str(size): figure([_admit_us(size) for _ in range(rounds)], digits=2) for size in windows}
    return {
        "send_us": sends,
        "page_us": pages,
        "admit_us": admits,
        "listeners": {str(count): _listeners(count) for count in heard_by},
    }


async def _messages(
    path: Path, sizes: Sequence[int], rounds: int
) -> tuple[dict[str, Figure], dict[str, Figure]]:
    await _fill(path, sizes, rounds)
    sends: dict[str, list[float]] = {str(size): [] for size in sizes}
    pages: dict[str, list[float]] = {str(size): [] for size in sizes}
    store = SqliteStore(path)
    async with running(store) as directory:
        for number in range(rounds):
            for n, size in enumerate(sizes):
                session_id = str(UUID(int=number * len(sizes) + n))
                pages[str(size)].append(await _page_us(directory, session_id))
                sends[str(size)].append(await _send_us(directory, session_id))
    await store.close()
    return (
        {size: figure(values, digits=0) for size, values in sends.items()},
        {size: figure(values, digits=0) for size, values in pages.items()},
    )


async def _send_us(directory: Directory, session_id: str) -> float:
    async def send() -> None:
        await directory.find(session_id).ask(Send(directory.new_id(), "The quick brown fox", "{}", "", ""))

    return await _each_us(send)


async def _page_us(directory: Directory, session_id: str) -> float:
    key = directory.find(session_id).session.key

    async def page() -> None:
        await directory.store.history(key, None, None, _PAGE)

    return await _each_us(page)


async def _each_us(do: Callable[[], Awaitable[None]]) -> float:
    began_s = time.perf_counter()
    for _ in range(_EACH):
        await do()
    return (time.perf_counter() - began_s) / _EACH * 1_000_000


async def _fill(path: Path, sizes: Sequence[int], rounds: int) -> None:
    """For each round a session of each size."""
    now = wall_ms()
    store = SqliteStore(path)
    await store.start(lambda: Anchor(now, now))
    for n, size in enumerate([size for _ in range(rounds) for size in sizes]):
        session_id = str(UUID(int=n))
        began = now - size
        session = Session(
            n + 1,
            session_id,
            "silent",
            "user",
            session_id,
            "{}",
            began,
            now,
            now,
            _CONFIG,
            last_message_at=now,
        )
        texts = (
            Message(str(UUID(int=m)), began + m + 1, "user", False, "The quick brown fox", "{}", "")
            for m in range(size)
        )
        await store.commit([InsertSession(session), *(InsertMessage(n + 1, one, "") for one in texts)])
    await store.close()


def _admit_us(size: int) -> float:
    """One admission, each window holding `size` instants of the last hour, and as many fall out as come in."""
    now = wall_ms()
    far = Limit(10 * size, 3600)
    limits = Limits(far, far, far)
    full = tuple(now - _HOUR_MS + n * _HOUR_MS // size for n in range(size))
    subjects = {"session": "session", "user": "user", "agent": "agent"}
    limits.restore([SaveWindow(scope, one, full) for scope, one in subjects.items()], lambda _: "agent")
    count = 1000
    began_s = time.perf_counter()
    for n in range(count):
        limits.admit(now + n * _HOUR_MS // size, "user", "agent", "session")
    return (time.perf_counter() - began_s) / count * 1_000_000


def _listeners(count: int) -> dict[str, float]:
    with pinned_server() as (host, port):
        return listeners.measure(host, port, count, sessions=1, messages=8, per_s=1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.growth")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (5)")
    print(json.dumps(measure(rounds=parser.parse_args(argv).rounds), indent=2))


if __name__ == "__main__":
    main()
