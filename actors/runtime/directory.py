"""Where sessions are found: id to actor, and what became of those that are over.

Beginning, ending, finding and listing sessions. The tasks around it are in `service`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from functools import partial
from itertools import islice
from typing import Literal, NamedTuple, NoReturn
from zlib import crc32

import trio

from vigil.actors.agents.base import AgentEntry
from vigil.actors.callbacks import Callback, await_callback
from vigil.actors.core.commands import End, Transition
from vigil.actors.core.errors import (
    AgentNotFound,
    Overloaded,
    SessionBroken,
    SessionExpired,
    SessionNotFound,
)
from vigil.actors.core.events import Event
from vigil.actors.core.expiry import Phase, merge, phase
from vigil.actors.core.lifecycle import begin, creation, tombstone
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import Session, TimeoutConfig, TimeoutPatch, Tombstone, TurnState
from vigil.actors.hub.hub import Hub
from vigil.actors.indexes.session_index import SessionIndex, merged
from vigil.actors.indexes.sharded_dict import ShardedDict
from vigil.actors.indexes.tombstones import Tombstones
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime.actor import SessionActor, save_answer
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.counters import Counters
from vigil.actors.runtime.idempotency import Keys
from vigil.actors.runtime.mailbox import Saving
from vigil.actors.runtime.supervision import RestartBudget, supervise
from vigil.actors.stores.base import (
    OWED,
    BrokenRecord,
    ForgetTombstones,
    InsertSession,
    PendingTurn,
    RemoveSession,
    Store,
    Write,
)
from vigil.actors.turns.turns import TURN_ENDS, Turns

Status = Literal["active", "expired", "all"]


class Rules(NamedTuple):
    """What the service's settings say about all sessions."""

    defaults: TimeoutConfig = TimeoutConfig(30, True, 180, 5)
    session_max: int = 1_000_000
    tombstone_minutes: int = 1440
    tombstone_max: int = 1_000_000


class Wanted(NamedTuple):
    """A session that somebody asks for. Metadata is compact JSON."""

    agent: AgentEntry
    user_id: str
    metadata: str
    patch: TimeoutPatch


class Counts(NamedTuple):
    active: int
    expired: int
    expiring_soon: int
    invalid: int


class Listing(NamedTuple):
    """A page of sessions, how many the filter matches in all, and the counts of the whole service."""

    sessions: Sequence[Session | Tombstone]
    total: int
    counts: Counts


class Directory:
    """All sessions of one service. Its turns are tasks of `nursery`, its actors of all `homes` alike."""

    def __init__(
        self,
        *,
        store: Store,
        clock: ScaledClock,
        limits: Limits,
        agents: Mapping[str, AgentEntry],
        rules: Rules,
        new_id: Callable[[], str],
        next_key: int,
        nursery: trio.Nursery,
        homes: Sequence[trio.Nursery],
    ) -> None:
        self.store = store
        self.clock = clock
        self.limits = limits
        self.keys = Keys(store, clock)
        self.counters = Counters()
        self.budget = RestartBudget()
        self.tombstones = Tombstones(rules.tombstone_minutes, rules.tombstone_max)
        self.hub = Hub(self._only_event)
        self.turns = Turns(agents, store, clock.now, self.hub, new_id, nursery)
        self._agents = agents
        self._rules = rules
        self.new_id = new_id
        self._first_key = self._next_key = next_key
        self._homes = homes
        self._context = Context()
        self._actors: ShardedDict[SessionActor] = ShardedDict()
        self._live_count = 0
        self._live = SessionIndex()
        self._broken: dict[str, BrokenRecord] = {}
        self._warned = 0
        self._creating = 0
        self.watch: Callable[[str, Transition], None] | None = None  # told of every committed transition

    # --- finding

    def find(self, session_id: str, now: int | None = None) -> SessionActor:
        """The actor of a live session. Raises SessionExpired, SessionBroken or SessionNotFound."""
        actor = self._actors.get(session_id)
        if actor is None:
            self._raise_why_not_live(session_id)
        if phase(actor.state, self.clock.now() if now is None else now) is Phase.DUE:
            raise SessionExpired(tombstone(actor.session))  # its timer was not served yet
        return actor

    def actors(self) -> list[SessionActor]:
        return list(self._actors.values())

    def agent(self, agent_id: str) -> AgentEntry:
        """Raises AgentNotFound."""
        entry = self._agents.get(agent_id)
        if entry is None:
            raise AgentNotFound(agent_id)
        return entry

    def use_agents(self, agents: Mapping[str, AgentEntry]) -> None:
        """From now on these are the agents there are. Sessions of one that is gone live on, and their turns fail; a
        turn that runs goes on with the agent that it began with.
        """
        self._agents = agents
        self.turns.use_agents(agents)
        self.limits.use_overrides(overrides(agents), self.agent_of)

    def agent_of(self, session_id: str) -> str | None:
        actor = self._actors.get(session_id)
        return None if actor is None else actor.session.agent_id

    def counts(self) -> Counts:
        self.tombstones.forget_due(self.clock.now())
        return Counts(self._live_count, len(self.tombstones), self._warned, len(self._broken))

    def page(
        self, agent_id: str | None, user_id: str | None, status: Status, *, offset: int, limit: int
    ) -> Listing:
        """Sessions newest first. The cost grows with offset + limit, not with how many there are."""
        counts = self.counts()
        live, expired = [self._live], [self.tombstones.index]
        indexes = {"active": live, "expired": expired, "all": live + expired}[status]
        total = sum(index.count(agent_id, user_id) for index in indexes)
        page = islice(merged(indexes, agent_id, user_id), offset, offset + limit)
        return Listing([self._record(session_id) for _, session_id in page], total, counts)

    # --- beginning and ending

    def begin(
        self, wanted: Wanted, now: int, then: Callback[Transition], saving: Saving | None = None
    ) -> None:
        """Commit a new session and start its actor. It begins at `now`, the instant at which it was admitted.

        `then` hears of it once it is there; or Overloaded at the session cap, StoreUnavailable.
        """
        if self._live_count + self._creating >= self._rules.session_max:
            then(Overloaded(f"The server holds its {self._rules.session_max} sessions", retry_after_s=60))
            return
        transition = begin(self._new_session(wanted, now))

        def committed(error: Exception | None) -> None:
            self._creating -= 1
            if error is None:
                self._created(transition)
            then(transition if error is None else error)

        self._creating += 1
        self.store.submit(_creation(transition, saving), committed)

    async def create(
        self, agent_id: str, user_id: str, metadata: str, patch: TimeoutPatch, saving: Saving | None = None
    ) -> Transition:
        """`begin` now, waited for."""
        wanted, now = Wanted(self.agent(agent_id), user_id, metadata, patch), self.clock.now()
        await trio.lowlevel.checkpoint()  # however quick the store is, others have their turn
        return await await_callback(lambda then: self.begin(wanted, now, then, saving))

    async def end(self, session_id: str) -> None:
        """End a live session, or forget an expired or broken one. Raises SessionNotFound, StoreUnavailable."""
        actor = self._actors.get(session_id)
        if actor is not None:
            try:
                await actor.ask(End())
            except (SessionExpired, SessionBroken):
                pass  # its timer or a crash came first, and left something to end
            else:
                return
        await self._end_what_is_left(session_id)

    def spawn(self, session: Session) -> SessionActor:
        """Start the actor of a session that is in the store."""
        actor = SessionActor(session, self)
        self._actors[session.id] = actor
        self._live_count += 1
        self._live.add(session.created_at, session.id, session.agent_id, session.user_id)
        self._warned += session.warned
        # Nothing of whoever creates it lives on with it: not the request's context, not a name of its own.
        # Not in turns: sets that are as large grow at once.
        home = self._homes[crc32(session.id.encode()) % len(self._homes)]
        self._context.run(partial(home.start_soon, supervise, actor, self, name="session"))
        return actor

    def give_up(self, record: BrokenRecord) -> None:
        """A session that cannot be served: 500 on its id until it is deleted or the server starts anew."""
        self._broken[record.id] = record

    # --- what actors and their supervisor tell

    def on_committed(self, actor: SessionActor, before: Session, transitions: Sequence[Transition]) -> None:
        after = actor.state
        self.counters.depths[len(transitions)] += 1
        if before.event_id == 1 and isinstance(after, Session) and after.event_id > 1:
            self._recall_creation(before)
        for transition in transitions:
            if transition.events:
                self._publish(transition.events)
            if transition.turn is not None:
                self._note_turn(actor, transition, *transition.turn)
            if self.watch is not None:
                self.watch(before.id, transition)
        if isinstance(after, Session):
            self._warned += after.warned - before.warned
            return
        self._remove(before)
        if isinstance(after, Tombstone):
            self.tombstones.add(after)

    def crashed(self, actor: SessionActor) -> None:
        self.counters.crashes += 1
        self.turns.cancel(actor.state.id)

    def restarted(self, actor: SessionActor, session: Session, pending: Sequence[PendingTurn]) -> None:
        self._warned += session.warned - actor.session.warned
        actor.state = session
        self.hub.resync(session.id, session.event_id, self.clock.now())
        for turn in pending:
            self.turns.resubmit(actor, turn.message, turn.turn)

    def quarantine(self, actor: SessionActor, why: str) -> None:
        session = actor.session
        self._remove(session)
        self.give_up(BrokenRecord(session.key, session.id, why))
        actor.close(SessionBroken(session.id, why))
        self.hub.abandon(session.id)

    # --- private

    def _raise_why_not_live(self, session_id: str) -> NoReturn:
        stone = self.tombstones.get(session_id, self.clock.now())
        if stone is not None:
            raise SessionExpired(stone)
        if session_id in self._broken:
            raise SessionBroken(session_id, self._broken[session_id].why)
        raise SessionNotFound(session_id)

    def _record(self, session_id: str) -> Session | Tombstone:
        actor = self._actors.get(session_id)
        return actor.session if actor is not None else self.tombstones[session_id]

    def _new_session(self, wanted: Wanted, now: int) -> Session:
        key, self._next_key = self._next_key, self._next_key + 1
        agent, user_id, metadata, patch = wanted
        return Session(
            key=key,
            id=self.new_id(),
            agent_id=agent.id,
            user_id=user_id,
            channel_id=self.new_id(),
            metadata=metadata,
            created_at=now,
            last_activity=now,
            renewed_at=now,
            config=merge(merge(self._rules.defaults, agent.timeouts), patch),
        )

    def _remove(self, session: Session) -> None:
        del self._actors[session.id]
        self._live_count -= 1
        self._live.remove(session.created_at, session.id, session.agent_id, session.user_id)
        self._warned -= session.warned
        self.budget.forget(session.id)
        self.limits.drop_session(session.id)
        self.turns.cancel(session.id)

    async def _end_what_is_left(self, session_id: str) -> None:
        broken = self._broken.get(session_id)
        if broken is not None:
            await self.store.commit([RemoveSession(broken.session_key, None)])
            self._broken.pop(session_id, None)
        elif self.tombstones.get(session_id, self.clock.now()) is not None:
            await self.store.commit([ForgetTombstones((session_id,))])
            self.tombstones.discard(session_id)
        else:
            raise SessionNotFound(session_id)

    def _note_turn(self, actor: SessionActor, transition: Transition, at: int, turn: TurnState) -> None:
        message = transition.message
        if turn in TURN_ENDS:
            self.turns.settle(actor.state.id, at)
        elif message and at == message.created_at and turn in OWED and isinstance(actor.state, Session):
            self.turns.submit(actor, message, turn)

    def _only_event(self, session_id: str) -> Event | None:
        """That of its creation, while nothing else has happened to it since it was created in this run."""
        session = self._actors[session_id].session
        return creation(session) if session.event_id == 1 and self._is_of_this_run(session) else None

    def _recall_creation(self, session: Session) -> None:
        if self._is_of_this_run(session):
            self.hub.recall(creation(session))

    def _is_of_this_run(self, session: Session) -> bool:
        return session.key >= self._first_key

    def _created(self, transition: Transition) -> None:
        session, events = transition.session, transition.events
        if len(events) > 1:
            self._publish(events)
        else:  # nobody can listen yet, and an only event is kept as the session itself: a million have no other
            self.counters.note(events[0])
        self.spawn(session)
        if self.watch is not None:
            self.watch(session.id, transition)

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self.counters.note(event)
        self.hub.publish(events)


def overrides(agents: Mapping[str, AgentEntry]) -> dict[str, tuple[Limit | None, Limit | None]]:
    """The limits that agents have of their own, for `Limits`."""
    return {
        entry.id: (entry.session_limit, entry.agent_limit)
        for entry in agents.values()
        if entry.session_limit or entry.agent_limit
    }


def _creation(transition: Transition, saving: Saving | None) -> list[Write]:
    session = transition.session
    writes: list[Write] = [InsertSession(session)]
    if saving is not None:
        writes.append(save_answer(session.key, session.created_at, saving, transition))
    return writes
