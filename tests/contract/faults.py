"""Stores that fail or wait when a test says so, in place of the real ones."""

from collections.abc import Sequence

import trio

from vigil.actors.core.errors import StoreUnavailable
from vigil.actors.stores.base import InsertMessage, InsertSession, Write
from vigil.actors.stores.memory import SlowMemoryStore


class FailingStore(SlowMemoryStore):
    """Commits nothing while `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    async def commit(self, writes: Sequence[Write]) -> None:
        if self.broken:
            raise StoreUnavailable("disk I/O error on /secret/path/vigil.db")
        await super().commit(writes)


class SlowStore(SlowMemoryStore):
    """While `gate` is there, says `reached` when a new session or message waits, and holds it until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = trio.Event()
        self.gate: trio.Event | None = None

    async def commit(self, writes: Sequence[Write]) -> None:
        if self.gate is not None and any(
            isinstance(write, InsertSession | InsertMessage) for write in writes
        ):
            self.reached.set()
            await self.gate.wait()
        await super().commit(writes)
