"""The service of sessions in this process, without HTTP: what benches of actors and of the store drive."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from uuid import UUID

import trio

from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.commands import Command, Heartbeat, Send
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutPatch
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime import service
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.creation import Rules
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import Store

CALLERS = 32
_FAR = Limit(1_000_000_000, 60)
_STRIDE = 7919  # a prime: neighbours in time are not neighbours in memory
_LOOK_S = 0.001


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[Directory]:
    """The service on the real clock, with the agent `silent`; limits, which are the server's to ask, far away."""
    ids, stop = count(1), trio.Event()
    run = partial(
        service.run,
        store=store,
        clock=ScaledClock(wall_ms()),
        limits=Limits(_FAR, _FAR, _FAR),
        agents={"silent": AgentEntry("silent", "Silent", None)},
        rules=Rules(session_max=100_000_000),
        new_id=lambda: str(UUID(int=next(ids))),
        stop=stop,
    )
    async with trio.open_nursery() as nursery:
        yield await nursery.start(run)
        stop.set()


class Driver:
    """Asks of `CALLERS` callers that go round over the sessions of a directory."""

    def __init__(self, directory: Directory, ids: Sequence[str]) -> None:
        self._directory = directory
        self._ids = ids
        self._made: list[str] = []
        self._asks: Mapping[str, Callable[[int], Awaitable[object]]] = {
            "heartbeat": partial(self._ask, Heartbeat()),
            "send": partial(self._ask, Send("message", "The quick brown fox", "{}", "", "")),
            "create": self._create,
        }

    async def per_s(self, operation: str, seconds: float) -> float:
        """How many were answered in a second. Sessions that `create` made are ended afterwards, untimed."""
        done = await repeat(self._asks[operation], CALLERS, seconds)
        while self._made:
            await self._directory.end(self._made.pop())
        return done

    async def _ask(self, command: Command, n: int) -> None:
        await self._directory.find(self._ids[n * _STRIDE % len(self._ids)]).ask(command)

    async def _create(self, n: int) -> None:
        transition = await self._directory.create("silent", f"user-{n}", "{}", TimeoutPatch())
        self._made.append(transition.session.id)


async def repeat(ask: Callable[[int], Awaitable[object]], callers: int, seconds: float) -> float:
    """Each of so many callers asks again as soon as it is answered. Gives answers a second."""
    numbers = count()
    began_s = time.perf_counter()
    end_s = began_s + seconds
    answered = 0

    async def call() -> None:
        nonlocal answered
        while time.perf_counter() < end_s:
            await ask(next(numbers))
            answered += 1
            await (
                trio.lowlevel.checkpoint()
            )  # as one that comes from a socket: asking by itself takes no turn

    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(call)
    return answered / (time.perf_counter() - began_s)


class Pauses:
    """How long the event loop was away at most. Run `watch` as a task."""

    def __init__(self) -> None:
        self._longest_s = 0.0

    async def watch(self) -> None:
        while True:
            before_s = time.perf_counter()
            await trio.sleep(_LOOK_S)
            self._longest_s = max(self._longest_s, time.perf_counter() - before_s - _LOOK_S)

    def longest_ms(self) -> float:
        """Since the last time that this was asked."""
        longest_s, self._longest_s = self._longest_s, 0.0
        return round(longest_s * 1000, 1)


def wall_ms() -> int:
    return time.time_ns() // 1_000_000
