"""What live sessions cost: memory each, how fast they start, what they do to everything else, how late timers fire.

    python -m vigil.loadtests.bench.measures.live_sessions [--sessions 100000] [--expiring 10000] [--per-second 1000]

In this process, on the real clock, with the memory store, so that what is measured is the actors. Each session is
a Trio task and has a token and a user of its own. `created` goes through the directory as a request would, 32 at a
time; `restored` is what a starting server does. Operations are counted on 1 000 sessions, first when there are no
others, then on as many picked from all of them. Lateness is from a session's expiresAt to the instant at which its
actor took it up, on a server that is otherwise idle. A pause is how late the event loop wakes a task that wanted
to sleep for 2 ms; of those, `gc` is the longest that was garbage collection.
"""

import argparse
import gc
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from uuid import UUID

import trio

from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.commands import Heartbeat, Renew, Send
from vigil.actors.core.events import Event, Expired
from vigil.actors.core.expiry import MINUTE_MS
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import Session, TimeoutConfig, TimeoutPatch
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime import service
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.counters import Counters
from vigil.actors.runtime.creation import Rules
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import InsertSession
from vigil.actors.stores.memory import MemoryStore
from vigil.server.api.auth import Authenticator
from vigil.server.ops.serve import collect_seldom, freeze_what_is_there

CONFIG = TimeoutConfig(30, True, 180, 5)
LEAD_MS = 5000
CALLERS = 32
FEW = 1000
OPERATION_S = 1.0  # of each kind of operation, at each population
_PAGE_BYTES = 4096
_NAP_S = 0.002

Operation = Callable[[Directory, str], Awaitable[object]]


class ExactCounters(Counters):
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


class Pauses:
    """The longest pause of the event loop, and of the garbage collector, in seconds."""

    def __init__(self) -> None:
        self.loop_s = self.gc_s = self._gc_began_s = 0.0

    async def watch(self) -> None:
        while True:
            due = trio.current_time() + _NAP_S
            await trio.sleep_until(due)
            self.loop_s = max(self.loop_s, trio.current_time() - due)

    @contextmanager
    def listening(self) -> Iterator[None]:
        gc.callbacks.append(self._note)
        yield
        gc.callbacks.remove(self._note)

    def taken(self, phase: str) -> dict[str, float]:
        """The figures so far, which then start anew."""
        figures = {f"pause_ms_{phase}": self.loop_s * 1000, f"pause_ms_{phase}_gc": self.gc_s * 1000}
        self.loop_s = self.gc_s = 0.0
        return {name: round(ms, 1) for name, ms in figures.items()}

    def _note(self, phase: str, _info: Mapping[str, int]) -> None:
        if phase == "start":
            self._gc_began_s = time.perf_counter()
        else:
            self.gc_s = max(self.gc_s, time.perf_counter() - self._gc_began_s)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.live_sessions")
    parser.add_argument("--sessions", type=int, default=100_000, help="live sessions (100000)")
    parser.add_argument("--expiring", type=int, default=10_000, help="of which so many expire (10000)")
    parser.add_argument("--per-second", type=int, default=1000, help="expiries a second (1000)")
    typed = parser.parse_args(argv)
    collect_seldom()
    print(json.dumps(trio.run(_measure, typed.sessions, typed.expiring, typed.per_second), indent=2))


async def _measure(sessions: int, expiring: int, per_second: int) -> dict[str, float]:
    pauses = Pauses()
    with pauses.listening():
        figures = await _created(sessions, pauses)
        return figures | await _restored_and_expired(sessions, expiring, per_second, pauses)


async def _created(sessions: int, pauses: Pauses) -> dict[str, float]:
    store, clock = MemoryStore(), ScaledClock(_wall_ms())
    async with _Run(store, clock, pauses) as run:
        directory = run.directory
        await _create(directory, range(FEW))
        alone = await _speeds(directory, [actor.state.id for actor in directory.actors()])
        freeze_what_is_there()
        pauses.taken("before")
        before, began = _rss_bytes(), time.perf_counter()
        await _create(directory, range(FEW, FEW + sessions))
        took = time.perf_counter() - began
        figures = pauses.taken("creating")
        each = (_rss_bytes() - before) / sessions
        picked = [actor.state.id for actor in directory.actors()[:: (sessions + FEW) // FEW]]
        freeze_what_is_there()  # as the collector had it, before it went through all of it to measure
        await trio.sleep(2 * _NAP_S)  # until that pause, which is ours, is noted
        pauses.taken("measuring")
        among_all = await _speeds(directory, picked)
        figures |= pauses.taken("operating")
    return {
        "created_per_s": round(sessions / took),
        "rss_bytes_each": round(each),
        **{f"{name}_per_s_at_{FEW}": speed for name, speed in alone.items()},
        **{f"{name}_per_s_at_{FEW + sessions}": speed for name, speed in among_all.items()},
        **{f"{name}_speed_kept": round(among_all[name] / alone[name], 2) for name in alone},
        **figures,
    }


async def _create(directory: Directory, numbers: range) -> None:
    """One session for each number, `CALLERS` at a time, each with its token."""
    mint = Authenticator(lambda _: None, b"secret").mint
    left = iter(numbers)

    async def caller() -> None:
        for n in left:
            mint((await directory.create("silent", f"user-{n}", "{}", TimeoutPatch())).session.id)

    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(caller)


async def _get(directory: Directory, session_id: str) -> object:
    return directory.find(session_id).session


async def _heartbeat(directory: Directory, session_id: str) -> object:
    return await directory.find(session_id).ask(Heartbeat())


async def _send(directory: Directory, session_id: str) -> object:
    return await directory.find(session_id).ask(Send(directory.new_id(), "hello", "{}", "", ""))


async def _renew(directory: Directory, session_id: str) -> object:
    return await directory.find(session_id).ask(Renew())


OPERATIONS: dict[str, Operation] = {"get": _get, "heartbeat": _heartbeat, "send": _send, "renew": _renew}


async def _speeds(directory: Directory, session_ids: Sequence[str]) -> dict[str, int]:
    return {name: await _speed(directory, session_ids, OPERATIONS[name]) for name in OPERATIONS}


async def _speed(directory: Directory, session_ids: Sequence[str], operation: Operation) -> int:
    """So many a second, `CALLERS` at a time, each on sessions of its own."""
    until = time.perf_counter() + OPERATION_S
    done = 0

    async def caller(own: Sequence[str]) -> None:
        nonlocal done
        while time.perf_counter() < until:
            for session_id in own:
                await operation(directory, session_id)
                await (
                    trio.lowlevel.checkpoint()
                )  # as one that comes from a socket: asking by itself takes no turn
            done += len(own)

    async with trio.open_nursery() as nursery:
        for n in range(CALLERS):
            nursery.start_soon(caller, session_ids[n::CALLERS])
    return round(done / (time.perf_counter() - until + OPERATION_S))


async def _restored_and_expired(
    sessions: int, expiring: int, per_second: int, pauses: Pauses
) -> dict[str, float]:
    store, clock = MemoryStore(), ScaledClock(_wall_ms())
    await store.start(clock.anchor)
    first_ms = clock.now() + LEAD_MS + sessions // 5  # after the restore is done
    await store.commit([InsertSession(_session(n, first_ms, expiring, per_second)) for n in range(sessions)])
    gc.disable()  # as a server that starts
    began = time.perf_counter()
    async with _Run(store, clock, pauses) as run:
        took = time.perf_counter() - began
        freeze_what_is_there()
        counters = run.directory.publisher.counters = ExactCounters(expiring)
        wait_ms = first_ms - clock.now() - LEAD_MS // 2
        if wait_ms < 0:
            raise SystemExit("the machine is too busy: the restore took until the first session expired")
        await trio.sleep(wait_ms / 1000)
        pauses.taken("restoring")
        with trio.fail_after(LEAD_MS / 1000 + expiring / per_second + 60):
            await counters.enough.wait()
        figures = pauses.taken("expiring")
    late = sorted(counters.late_ms)
    return {
        "restored_per_s": round(sessions / took),
        "expired": len(late),
        "late_ms_p50": late[len(late) // 2],
        "late_ms_p99": late[len(late) * 99 // 100],
        "late_ms_max": late[-1],
        **figures,
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
        user_id=f"user-{n}",
        channel_id=session_id,
        metadata="{}",
        created_at=began_ms,
        last_activity=began_ms,
        renewed_at=began_ms,
        config=CONFIG,
        warned=True,
    )


class _Run:
    """A service for the length of an `async with`, watched for pauses."""

    def __init__(self, store: MemoryStore, clock: ScaledClock, pauses: Pauses) -> None:
        many = Limit(1_000_000_000, 60)
        ids = count(1)
        self._stop = trio.Event()
        self._pauses = pauses
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
        nursery.start_soon(self._pauses.watch)
        self._nursery = nursery
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(None, None, None)


def _rss_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
