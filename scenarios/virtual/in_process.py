"""A whole server inside this process, in virtual time: started, stopped, crashed and started again.

It is the real site over the memory store; only the transport differs (`server.front.direct`). It knows nothing of
scripts and people.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import trio

from vigil.actors.agents import catalogue
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.stores.memory import MemoryStore
from vigil.server.api.auth import SCOPES, Principal
from vigil.server.api.call import Site
from vigil.server.front.direct import Answer, Content, Direct, Listener
from vigil.server.ops import site as sites
from vigil.server.ops.site import Plan

KEY = "in-process-key-0123456789"  # has all scopes
GRACE_S = 10.0
START_MS = 1_795_338_000_000  # 2026-11-22T09:00:00.000Z


class Disconnected(Exception):
    """No answer came: what was asked may or may not have happened."""


def virtual_plan(*, start_ms: int = START_MS, seed: object = 0, **changes: Any) -> Plan:
    """The default server on a clock without a wall, ids drawn from `seed`. `changes` are fields of `Plan`.

    To be made inside the run that uses it: the clock counts from the run's own.
    """
    ids = Random(f"ids of {seed}")  # noqa: S311  the same in every run, on purpose
    plan = Plan(
        store=MemoryStore(),
        clock=ScaledClock(start_ms),
        new_id=lambda: str(UUID(int=ids.getrandbits(128), version=4)),
        find_key={KEY: Principal("owner", "owner", frozenset(SCOPES))}.get,
        secret=b"in-process-secret-0123456789abcd",
        agents=catalogue.demo(),
    )
    return replace(plan, **changes)


class InProcessServer:
    """One server and its store over several lives. Its tasks run in `nursery`."""

    def __init__(self, plan: Plan, nursery: trio.Nursery) -> None:
        self.plan = plan
        self.is_up = False
        self._nursery = nursery
        self._under_way: dict[trio.CancelScope, None] = {}
        self._idle = trio.Event()

    async def start(self) -> None:
        self._stop, self._ended = trio.Event(), trio.Event()
        self.site: Site = await self._nursery.start(self._run)
        self._direct = Direct(self.site)
        self.is_up = True

    async def stop(self) -> None:
        """A clean stop: requests under way have the grace period to finish, windows are saved."""
        self.site.stop_taking_requests()
        self.is_up = False
        with trio.move_on_after(GRACE_S):
            await self._until_idle()
        self._drop_what_is_under_way()
        await self._until_idle()
        self._stop.set()
        await self._ended.wait()

    async def crash(self) -> None:
        """What the store does not have is lost, and nobody who waits gets an answer."""
        self.is_up = False
        self._drop_what_is_under_way()
        self._scope.cancel()
        await self._until_idle()  # a request that outlived its server could still write to the store
        await self._ended.wait()

    async def restart(self, *, crash: bool = False, down_s: float = 0.0, **changes: Any) -> None:
        """Come back with the same store after `down_s` seconds, with `changes` to the plan."""
        await (self.crash() if crash else self.stop())
        await trio.sleep(down_s)
        self.plan = replace(self.plan, clock=ScaledClock(self.plan.clock.now()), **changes)
        await self.start()

    @property
    def now(self) -> int:
        """Session time in milliseconds since the epoch; it goes on while the server is down."""
        return self.plan.clock.now()

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), content: Content = b""
    ) -> Answer:
        """See `Direct.request`. Raises Disconnected when the server is down, or goes down before it has answered."""
        if not self.is_up:
            raise Disconnected
        with trio.CancelScope() as scope:
            self._under_way[scope] = None
            try:
                answer = await self._direct.request(method, target, headers, content)
            finally:
                del self._under_way[scope]
                if not self._under_way:
                    self._idle.set()
        if scope.cancel_called:
            raise Disconnected
        return answer

    def listen(
        self, target: str, headers: Iterable[tuple[str, str]] = ()
    ) -> AbstractAsyncContextManager[Listener]:
        """See `Direct.listen`. After a crash nothing more comes. Raises Disconnected when it is down."""
        if not self.is_up:
            raise Disconnected
        return self._direct.listen(target, headers)

    def _drop_what_is_under_way(self) -> None:
        for scope in self._under_way:
            scope.cancel()

    async def _until_idle(self) -> None:
        self._idle = trio.Event()
        if self._under_way:
            await self._idle.wait()

    async def _run(self, *, task_status: trio.TaskStatus[Site]) -> None:
        with trio.CancelScope() as self._scope:
            await sites.run(self.plan, stop=self._stop, task_status=task_status)
        self._ended.set()


@asynccontextmanager
async def running_in_process(plan: Plan) -> AsyncIterator[InProcessServer]:
    """A server that runs until the block is left, then stops cleanly."""
    async with trio.open_nursery() as nursery:
        server = InProcessServer(plan, nursery)
        await server.start()
        yield server
        if server.is_up:
            await server.stop()
