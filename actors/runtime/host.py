"""Where actors run: starts their tasks, follows what they commit, and ends, restarts or quarantines them.

Owns the nurseries and the restart budget. Refuses to know the rules of a session's life and what listeners are sent.
"""

from collections.abc import Sequence
from contextvars import Context
from functools import partial
from zlib import crc32

import trio

from vigil.actors.core.commands import End, Transition
from vigil.actors.core.errors import SessionBroken, SessionExpired, SessionNotFound
from vigil.actors.core.records import Session, Tombstone
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.publisher import Publisher
from vigil.actors.runtime.registry import Registry
from vigil.actors.runtime.supervision import RestartBudget, supervise
from vigil.actors.stores.base import BrokenRecord, ForgetTombstones, PendingTurn, RemoveSession, Store


class ActorHost:
    """Runs the actors of a registry, spread evenly over `nurseries`."""

    def __init__(
        self,
        store: Store,
        clock: ScaledClock,
        limits: Limits,
        registry: Registry,
        publisher: Publisher,
        nurseries: Sequence[trio.Nursery],
    ) -> None:
        self.store = store
        self.clock = clock
        self.budget = RestartBudget()
        self.nurseries = nurseries
        self._limits = limits
        self._registry = registry
        self._publisher = publisher
        self._context = Context()

    def spawn(self, session: Session) -> SessionActor:
        """Start the actor of a session that is in the store.

        The task gets an empty context and a shared name, so that nothing of the request that created it is kept for
        as long as it lives. The id's hash chooses its nursery: in turns, all nurseries would be equally large, and
        their sets of tasks would grow at the same moment, while everybody waits.
        """
        actor = SessionActor(session, self)
        self._registry.add(actor)
        nursery = self.nurseries[crc32(session.id.encode()) % len(self.nurseries)]
        self._context.run(partial(nursery.start_soon, supervise, actor, self, name="session"))
        return actor

    async def end(self, session_id: str) -> None:
        """End a live session, or forget an expired or broken one. Raises SessionNotFound, StoreUnavailable."""
        actor = self._registry.actor(session_id)
        if actor is not None:
            try:
                await actor.ask(End())
            except (SessionExpired, SessionBroken):
                pass  # its timer or a crash came first, and left something to end
            else:
                return
        await self._end_what_is_left(session_id)

    # --- called by actors and their supervisors

    def on_committed(self, actor: SessionActor, before: Session, transitions: Sequence[Transition]) -> None:
        """A batch is durable and `actor.state` is new; its senders have no results yet."""
        self._publisher.committed(actor, before, transitions)
        after = actor.state
        if isinstance(after, Session):
            if after.warned is not before.warned:
                self._registry.replace(before, after)
            return
        self._remove(before)
        if isinstance(after, Tombstone):
            self._registry.tombstones.add(after)

    def crashed(self, actor: SessionActor) -> None:
        self._publisher.counters.crashes += 1
        self._publisher.turns.cancel(actor.state.id)

    def restarted(self, actor: SessionActor, session: Session, pending: Sequence[PendingTurn]) -> None:
        self._registry.replace(actor.session, session)
        actor.state = session
        self._publisher.hub.resync(session.id, session.event_id, self.clock.now())
        for turn in pending:
            self._publisher.turns.resubmit(actor, turn.message, turn.turn)

    def quarantine(self, actor: SessionActor, why: str) -> None:
        session = actor.session
        self._remove(session)
        self._registry.add_broken(BrokenRecord(session.key, session.id, why))
        actor.close(SessionBroken(session.id, why))
        self._publisher.hub.abandon(session.id)

    # --- private

    def _remove(self, session: Session) -> None:
        self._registry.remove(session)
        self.budget.forget(session.id)
        self._limits.drop_session(session.id)
        self._publisher.turns.cancel(session.id)

    async def _end_what_is_left(self, session_id: str) -> None:
        broken, tombstones = self._registry.broken, self._registry.tombstones
        record = broken.get(session_id)
        if record is not None:
            await self.store.commit([RemoveSession(record.session_key, None)])
            broken.pop(session_id, None)
        elif tombstones.get(session_id, self.clock.now()) is not None:
            await self.store.commit([ForgetTombstones((session_id,))])
            tombstones.discard(session_id)
        else:
            raise SessionNotFound(session_id)
