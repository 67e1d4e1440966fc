"""A disk and an agent that obey the faults of a simulation. They take no time but virtual time.

The disk outlives servers; each server reaches it through a mount of its own, which dies with it. A crash finds
commits in the middle: each is on the disk or is not, in their order, and whoever waits is never told which.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import trio

from vigil.actors.agents.base import Reply, Turn
from vigil.actors.callbacks import await_callback
from vigil.actors.core.errors import AgentFailed, StoreUnavailable
from vigil.actors.core.records import Anchor, Message, Session, TurnState
from vigil.actors.stores.base import (
    CommitStats,
    Done,
    InsertSession,
    Page,
    PendingTurn,
    RemoveSession,
    SavedAnswer,
    SaveWindow,
    Snapshot,
    Write,
)
from vigil.actors.stores.memory import MemoryStore
from vigil.scenarios.simulation.faults.plan import Weather

THINKING_MS_MEDIAN = 1500
THINKING_MS_MAX = 20_000


class Disk(MemoryStore):
    """What is durable. `now` tells session time. It counts how many sessions were begun, how they ended, and how many
    milliseconds late those that expired were taken off the disk."""

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self.begun = 0
        self.ended: Counter[str] = Counter()
        self.late_ms: Counter[int] = Counter()
        self._now = now

    def _apply(self, writes: Sequence[Write]) -> None:
        super()._apply(writes)
        first = writes[0] if writes else None
        if type(first) is InsertSession:
            self.begun += 1
        elif type(first) is RemoveSession:
            self._note_end(first)

    def _note_end(self, write: RemoveSession) -> None:
        tombstone = write.tombstone
        self.ended["ended" if tombstone is None else tombstone.reason] += 1
        if tombstone is not None:
            self.late_ms[self._now() - tombstone.expires_at] += 1


class Mount:
    """One server's way to the disk, as a `Store`. Whether it `has_saved_windows` last is how cleanly it stopped."""

    def __init__(self, disk: Disk, weather: Weather) -> None:
        self.has_saved_windows = False
        self._disk = disk
        self._weather = weather
        self._under_way: dict[int, Sequence[Write]] = {}  # by their order
        self._next = 0
        self._done_at = 0.0  # commits are durable in their order
        self._crashed = trio.Event()

    @property
    def anchor(self) -> Anchor | None:
        return self._disk.anchor

    async def start(self, anchor: Callable[[], Anchor]) -> Snapshot:
        return await self._disk.start(anchor)

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        delay_s = self._weather.commit_delay_s()
        if not delay_s:
            return self._finish(writes, done)
        self._done_at = max(self._done_at, trio.current_time() + delay_s)
        self._under_way[self._next] = writes
        trio.lowlevel.spawn_system_task(self._finish_at, self._done_at, self._next, done)
        self._next += 1
        return None

    async def commit(self, writes: Sequence[Write]) -> None:
        await await_callback(partial(self.submit, writes))

    def _finish(self, writes: Sequence[Write], done: Done) -> None:
        if self._crashed.is_set():
            done(StoreUnavailable("the server has crashed"))
        elif self._weather.refuses_commit():
            done(StoreUnavailable("no space left on the simulated disk"))
        else:
            self.has_saved_windows = bool(writes) and type(writes[0]) is SaveWindow
            self._disk.submit(writes, done)

    async def crash(self) -> None:
        """From now on nothing reaches the disk through this mount, but what of the commits under way is kept."""
        self._crashed.set()
        under_way = list(self._under_way.values())
        for writes in under_way[: self._weather.kept_of(len(under_way))]:
            await self._disk.commit(writes)

    async def settle(self) -> None:
        """Wait until the slow commits that are under way are done."""
        await trio.sleep_until(self._done_at)

    async def session(self, session_key: int) -> Session | None:
        return await self._disk.session(session_key)

    async def pending_turns(self, session_key: int) -> Sequence[PendingTurn]:
        return await self._disk.pending_turns(session_key)

    async def history(self, session_key: int, before: int | None, after: int | None, limit: int) -> Page:
        return await self._disk.history(session_key, before, after, limit)

    async def reply_to(self, session_key: int, created_at: int) -> Message | None:
        return await self._disk.reply_to(session_key, created_at)

    async def turn(self, session_key: int, message_id: str) -> TurnState | None:
        return await self._disk.turn(session_key, message_id)

    async def saved_answer(self, scope: str, key: str) -> SavedAnswer | None:
        return await self._disk.saved_answer(scope, key)

    def statistics(self) -> CommitStats:
        return self._disk.statistics()

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _finish_at(self, done_at: float, number: int, done: Done) -> None:
        with trio.CancelScope(deadline=done_at, shield=True):
            await self._crashed.wait()
        self._finish(self._under_way.pop(number), done)


def says(content: str) -> str:
    """What the simulated agent answers: one can tell to what."""
    return f"You said {len(content)} characters, and at last: {content[-40:]}"


SLOW = "slowly"  # in the metadata of messages whose answer is said with pauses


class SimulatedAgent:
    """Thinks for a while, drawn from the seed and the message alone, and answers in pieces, unless it is at fault."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self._seed = seed
        self._weather = weather

    async def reply(self, turn: Turn) -> Reply:
        stream = Random(f"{self._seed}/{turn.message.id}")  # noqa: S311  a simulation's
        thinks_ms = min(stream.lognormvariate(math.log(THINKING_MS_MEDIAN), 0.7), THINKING_MS_MAX)
        await trio.sleep(round(thinks_ms) / 1000)
        await self._mishap()
        reply = says(turn.message.content)
        third = len(reply) // 3
        for piece in (reply[:third], reply[third : 2 * third], reply[2 * third :])[: stream.randint(1, 3)]:
            turn.say(piece)
            if SLOW in turn.message.metadata:
                await trio.sleep(1)
        return Reply(reply)

    async def _mishap(self) -> None:
        fault = self._weather.agent_fault()
        if fault == "hang":
            await trio.sleep_forever()
        if fault == "crash":
            raise RuntimeError("a simulated crash of an agent")
        if fault is not None:
            raise AgentFailed("The agent failed, as the simulation says")
