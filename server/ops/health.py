"""How well the service is: what the health endpoint says, and what readiness and metrics read (spec section 10)."""

from collections import deque

import trio

from vigil.actors.core.errors import Overloaded, RecordDamaged, StoreUnavailable
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import ProbeDiskSpace
from vigil.server.api.wire_time import iso
from vigil.server.input.schemas import HealthBody

LAG_PERIOD_S = 0.1
LAG_DEGRADED_S = 0.25
LAG_REMEMBERED_S = 10.0
PROBE_EVERY_S = 1.0
PROBE_PATIENCE_S = 5.0


class LoopLag:
    """How late the event loop wakes a task that wanted to sleep a tenth of a second."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque()

    async def watch(self) -> None:
        while True:
            due = trio.current_time() + LAG_PERIOD_S
            await trio.sleep_until(due)
            self._note(trio.current_time(), trio.current_time() - due)

    def worst(self) -> float:
        """The longest delay within the last ten seconds, in seconds."""
        self._forget(trio.current_time())
        return max((lag for _, lag in self._recent), default=0.0)

    def _note(self, now: float, lag: float) -> None:
        self._recent.append((now, lag))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - LAG_REMEMBERED_S:
            self._recent.popleft()


class StoreProbe:
    """Whether the store can commit what a send needs. Asked often, it commits at most once a second."""

    def __init__(self, directory: Directory, nursery: trio.Nursery) -> None:
        self._directory = directory
        self._nursery = nursery
        self._works = True
        self._checked_at = float("-inf")
        self._running: trio.Event | None = None

    async def works(self) -> bool:
        if self._running is None and trio.current_time() >= self._checked_at + PROBE_EVERY_S:
            self._running = trio.Event()
            self._nursery.start_soon(self._probe, self._running)
        if self._running is not None:
            with trio.move_on_after(PROBE_PATIENCE_S):
                await self._running.wait()
                return self._works
            return False
        return self._works

    async def _probe(self, done: trio.Event) -> None:
        """A task of its own, because a commit that hangs cannot be cancelled."""
        try:
            await self._directory.store.commit([ProbeDiskSpace()])
            self._works = True
        except (StoreUnavailable, RecordDamaged, Overloaded):
            self._works = False
        self._checked_at = trio.current_time()
        self._running = None
        done.set()


class Health:
    """The body of the health endpoint."""

    def __init__(self, directory: Directory, probe: StoreProbe, lag: LoopLag) -> None:
        self._directory = directory
        self._probe = probe
        self._lag = lag
        self._started_at = directory.clock.now()

    async def check(self) -> HealthBody:
        works = await self._probe.works()
        counts = self._directory.counts()
        now = self._directory.clock.now()
        strained = counts.invalid > 0 or self._lag.worst() > LAG_DEGRADED_S
        return {
            "status": "unhealthy" if not works else "degraded" if strained else "healthy",
            "activeSessions": counts.active,
            "timestamp": iso(now),
            "expiringSoon": counts.expiring_soon,
            "invalidSessions": counts.invalid,
            "uptime": (now - self._started_at) // 1000,
        }
