"""The tasks around the directory: restore, housekeeping, following the wall clock, a clean stop.

Owns what happens once a minute or once a start. No deadline of a session rests on it: those are the actors' own.
"""

from collections.abc import Callable, Mapping

import structlog
import trio

from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.errors import Overloaded, RecordDamaged, StoreUnavailable
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.creation import Rules
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import ForgetTombstones, Snapshot, Store

log = structlog.get_logger()

HOUSEKEEPING_S = 60.0  # of session time, but at most once a real second
WALL_CLOCK_S = 1.0
ANCHOR_S = 30.0  # between anchors of an idle server whose clock runs at the wall clock's pace
ACTOR_NURSERIES = 32  # nurseries that share the actors
_CHUNK = 1000


async def run(
    *,
    store: Store,
    clock: ScaledClock,
    limits: Limits,
    agents: Mapping[str, AgentEntry],
    rules: Rules,
    new_id: Callable[[], str],
    stop: trio.Event,
    task_status: trio.TaskStatus[Directory] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Restore what `store` holds and serve it until `stop`. The directory is handed out once all is restored.

    A clean stop waits for the commits under way and saves the rate-limit windows. Cancellation saves nothing, like a
    crash. The store is the caller's, and stays open.
    """
    snapshot = await store.start(clock.anchor)
    async with trio.open_nursery() as nursery:
        directory = Directory(
            store=store,
            clock=clock,
            limits=limits,
            agents=agents,
            rules=rules,
            new_id=new_id,
            next_key=snapshot.next_key,
            nursery=nursery,
            actor_nurseries=[await nursery.start(_actor_nursery) for _ in range(ACTOR_NURSERIES)],
        )
        await _restore(directory, snapshot)
        nursery.start_soon(_keep_house, directory)
        if clock.follows_wall:
            nursery.start_soon(_follow_wall, directory)
            nursery.start_soon(_keep_anchor, directory)
        task_status.started(directory)
        await stop.wait()
        nursery.cancel_scope.cancel()
    try:
        await store.commit(limits.saved())
    except (StoreUnavailable, RecordDamaged) as error:
        why = getattr(error, "why", str(error))
        log.error("rate-limit windows are not saved and will start empty", why=why)  # noqa: TRY400  no bug


async def _actor_nursery(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """A nursery for some of the actors.

    Trio keeps a nursery's tasks in a set, and a set that grows is copied while all wait: 100 ms at 629 000 tasks.
    Many nurseries have small sets.
    """
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()


async def _restore(directory: Directory, snapshot: Snapshot) -> None:
    for record in snapshot.broken:
        directory.registry.add_broken(record)
    for tombstone in snapshot.tombstones:
        directory.registry.tombstones.add(tombstone)
    actors = {}
    for n, session in enumerate(snapshot.sessions, 1):
        actors[session.key] = directory.host.spawn(session)
        if n % _CHUNK == 0:
            await trio.lowlevel.checkpoint()
    for pending in snapshot.pending_turns:
        if pending.session_key in actors:
            directory.turns.resubmit(actors[pending.session_key], pending.message, pending.turn)
    directory.limits.restore(snapshot.windows, directory.agent_of)


async def _keep_house(directory: Directory) -> None:
    """Once a minute, drop what no request can see any more: empty windows, old tombstones."""
    while True:
        await trio.sleep(max(HOUSEKEEPING_S / directory.clock.scale, 1.0))
        now = directory.clock.now()
        directory.limits.forget_empty(now)
        directory.registry.tombstones.forget_due(now)
        await _forget_stored(directory)


async def _forget_stored(directory: Directory) -> None:
    forgotten = directory.registry.tombstones.forgotten
    while ids := tuple(forgotten[:_CHUNK]):
        try:
            await directory.store.commit([ForgetTombstones(ids)])
        except (StoreUnavailable, Overloaded):
            return  # they are still there the next time
        except RecordDamaged:
            pass  # they are there at the next start, and due then too
        del forgotten[: len(ids)]


async def _follow_wall(directory: Directory) -> None:
    """When the wall clock has jumped forward, have every actor compute its deadline again.

    Trio's clock stands still while a machine is suspended, and nothing reports a corrected clock, so it is compared
    once a second.
    """
    while True:
        await trio.sleep(WALL_CLOCK_S)
        if directory.clock.follow_wall():
            for n, actor in enumerate(directory.actors(), 1):
                actor.reschedule()
                if n % _CHUNK == 0:
                    await trio.lowlevel.checkpoint()


async def _keep_anchor(directory: Directory) -> None:
    """Commit where session time stands while nothing else is committed.

    After a restart with another time scale, the time since the last anchor counts at the new scale; without this, that
    would be all of an idle server's life.
    """
    while True:
        await trio.sleep(ANCHOR_S if directory.clock.scale == 1 else WALL_CLOCK_S)
        try:
            await directory.store.commit([])
        except (StoreUnavailable, Overloaded):
            continue
