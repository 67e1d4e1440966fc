"""Stand-ins that do as a test says: a store that fails or stalls, an agent that waits. And a directory without HTTP."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import trio

from tests.harness import AGENTS, START_MS, fake_ids
from vigil.actors.agents.base import AgentEntry, Reply, Turn
from vigil.actors.core.errors import StoreUnavailable
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutPatch
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime import service
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.creation import Rules
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import Page, SavedAnswer, Store, Write
from vigil.actors.stores.memory import MemoryStore, SlowMemoryStore


class Bystander:
    """A task that always wants to go on: `turns` is how often others have let it."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.turns += 1


class FaultyStore(SlowMemoryStore):
    """A memory store whose commits and reads can be held up, slow or refused. `commits` are those that came."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False
        self.delay_s = 0.0
        self.commits: list[Sequence[Write]] = []
        self._gate: trio.Event | None = None
        self._reads: trio.Event | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Commits wait until the block ends."""
        self._gate = gate = trio.Event()
        try:
            yield
        finally:
            self._gate = None
            gate.set()

    @contextmanager
    def held_reads(self) -> Iterator[None]:
        """Reads of messages and saved answers wait until the block ends."""
        self._reads = gate = trio.Event()
        try:
            yield
        finally:
            self._reads = None
            gate.set()

    async def commit(self, writes: Sequence[Write]) -> None:
        self.commits.append(writes)
        with trio.CancelScope(shield=True):
            await trio.sleep(self.delay_s)
            if self._gate is not None:
                await self._gate.wait()
        if self.failing:
            raise StoreUnavailable("the disk is full")
        await super().commit(writes)

    async def history(self, session_key: int, before: int | None, after: int | None, limit: int) -> Page:
        if self._reads is not None:
            await self._reads.wait()
        return await super().history(session_key, before, after, limit)

    async def saved_answer(self, scope: str, key: str) -> SavedAnswer | None:
        if self._reads is not None:
            await self._reads.wait()
        return await super().saved_answer(scope, key)


class PatientAgent:
    """Answers `re: ...` once it is let, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = trio.Event()

    async def reply(self, turn: Turn) -> Reply:
        self.asked.append(turn.message.content)
        await self.go.wait()
        return Reply(f"re: {turn.message.content}")


def entry(agent: Any, **fields: Any) -> AgentEntry:
    """A catalogue entry by the name of `patient`."""
    return AgentEntry("patient", "Patient", agent, **fields)


@asynccontextmanager
async def running_directory(
    *,
    store: Store | None = None,
    clock: ScaledClock | None = None,
    agents: Mapping[str, AgentEntry] = AGENTS,
    rules: Rules | None = None,
) -> AsyncIterator[Directory]:
    """The actors room alone, stopped cleanly at the end."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        running = partial(
            service.run,
            store=store or MemoryStore(),
            clock=clock or ScaledClock(START_MS),
            limits=Limits(Limit(60, 60), Limit(1000, 3600), Limit(5000, 3600)),
            agents=agents,
            rules=rules or Rules(),
            new_id=fake_ids(),
            stop=stop,
        )
        directory: Directory = await nursery.start(running)
        yield directory
        stop.set()


async def new_actor(directory: Directory, agent_id: str = "silent", *patch: Any) -> SessionActor:
    """The actor of a new session; `patch` are the fields of a TimeoutPatch."""
    done = await directory.create(agent_id, "user", "{}", TimeoutPatch(*patch))
    return directory.find(done.session.id)
