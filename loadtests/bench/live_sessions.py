"""What live sessions cost: memory each, how fast they start, how late their timers fire.

    python -m loadtests.bench.live_sessions [--sessions 100000] [--expiring 10000] [--per-second 1000]

In this process, on the real clock, with the memory store, so that what is measured is the actors. Each session is
a Trio task. `created` goes through the directory as a request would; `restored` is what a starting server does.
Lateness is from a session's expiresAt to the instant at which its actor took it up, on a server that is otherwise
idle.
"""

import argparse
import gc
import json
import time
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from uuid import UUID

import trio

from actors import service
from actors.agents.base import AgentEntry
from actors.clock import ScaledClock
from actors.directory import Directory, Rules
from actors.events import Event, Expired
from actors.lifecycle import MINUTE_MS
from actors.limits import Limit, Limits
from actors.records import Session, TimeoutConfig, TimeoutPatch
from actors.stores.base import InsertSession
from actors.stores.memory import MemoryStore
from actors.tally import Tally
from server.serve import collect_seldom, freeze_what_is_there

CONFIG = TimeoutConfig(30, True, 180, 5)
LEAD_MS = 5000
_PAGE_BYTES = 4096


class ExactTally(Tally):
    """Keeps every lateness, not only its bucket, and says when it has `enough`."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.late_ms: list[int] = []
        self.enough = trio.Event()
        self._expected = expected

    def note(self, event: Event) -> None:
        super().note(event)
        if isinstance(event.data, Expired):
            self.late_ms.append(event.at - event.data.expired_at)
            if len(self.late_ms) == self._expected:
                self.enough.set()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.live_sessions")
    parser.add_argument("--sessions", type=int, default=100_000, help="live sessions (100000)")
    parser.add_argument("--expiring", type=int, default=10_000, help="of which so many expire (10000)")
    parser.add_argument("--per-second", type=int, default=1000, help="expiries a second (1000)")
    typed = parser.parse_args(argv)
    collect_seldom()
    print(json.dumps(trio.run(_measure, typed.sessions, typed.expiring, typed.per_second), indent=2))


async def _measure(sessions: int, expiring: int, per_second: int) -> dict[str, float]:
    figures = await _created(sessions)
    return figures | await _restored_and_expired(sessions, expiring, per_second)


async def _created(sessions: int) -> dict[str, float]:
    store, clock = MemoryStore(), ScaledClock(_wall_ms())
    async with _Run(store, clock) as run:
        freeze_what_is_there()
        before = _rss_bytes()
        began = time.perf_counter()
        for _ in range(sessions):
            await run.directory.create("silent", "user", "{}", TimeoutPatch())
        took = time.perf_counter() - began
        each = (_rss_bytes() - before) / sessions
    return {"created_per_s": round(sessions / took), "rss_bytes_each": round(each)}


async def _restored_and_expired(sessions: int, expiring: int, per_second: int) -> dict[str, float]:
    store, clock = MemoryStore(), ScaledClock(_wall_ms())
    await store.start(clock.anchor)
    first_ms = clock.now() + LEAD_MS + sessions // 5  # after the restore is done
    await store.commit([InsertSession(_session(n, first_ms, expiring, per_second)) for n in range(sessions)])
    began = time.perf_counter()
    async with _Run(store, clock) as run:
        took = time.perf_counter() - began
        freeze_what_is_there()
        tally = run.directory.tally = ExactTally(expiring)
        with trio.fail_after((first_ms - clock.now()) / 1000 + expiring / per_second + 60):
            await tally.enough.wait()
    late = sorted(tally.late_ms)
    return {
        "restored_per_s": round(sessions / took),
        "expired": len(late),
        "late_ms_p50": late[len(late) // 2],
        "late_ms_p99": late[len(late) * 99 // 100],
        "late_ms_max": late[-1],
    }


def _session(n: int, first_ms: int, expiring: int, per_second: int) -> Session:
    """The first `expiring` of them expire one after another from `first_ms` on, the others much later."""
    expires_ms = first_ms + n * 1000 // per_second if n < expiring else first_ms + 20 * MINUTE_MS
    began_ms = expires_ms - CONFIG.timeout_minutes * MINUTE_MS
    session_id = str(UUID(int=n))
    return Session(
        key=n + 1,
        id=session_id,
        agent_id="silent",
        user_id="user",
        channel_id=session_id,
        metadata="{}",
        created_at=began_ms,
        last_activity=began_ms,
        renewed_at=began_ms,
        config=CONFIG,
        warned=True,
    )


class _Run:
    """A service for the length of an `async with`."""

    def __init__(self, store: MemoryStore, clock: ScaledClock) -> None:
        many = Limit(1_000_000_000, 60)
        ids = count(1)
        self._stop = trio.Event()
        self._service = partial(
            service.run,
            store=store,
            clock=clock,
            limits=Limits(many, many, many),
            agents={"silent": AgentEntry("silent", "Silent", None)},
            rules=Rules(session_max=100_000_000),
            new_id=lambda: str(UUID(int=next(ids))),
            stop=self._stop,
        )
        self._manager = trio.open_nursery()
        self.directory: Directory

    async def __aenter__(self) -> "_Run":
        nursery = await self._manager.__aenter__()
        self.directory = await nursery.start(self._service)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await self._manager.__aexit__(None, None, None)


def _rss_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
