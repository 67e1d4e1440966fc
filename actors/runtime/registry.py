"""Which sessions there are: the live actors, the tombstones, the broken records; found by id, counted, listed.

Owns these collections and keeps their counts right. Refuses to know how a session begins, runs, commits or publishes:
`creation`, `host` and `publisher` change what is here.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Literal, NamedTuple, NoReturn

from vigil.actors.core.errors import SessionBroken, SessionExpired, SessionNotFound
from vigil.actors.core.expiry import Phase, phase
from vigil.actors.core.lifecycle import tombstone_of
from vigil.actors.core.records import Session, Tombstone
from vigil.actors.indexes.session_index import SessionIndex, merged
from vigil.actors.indexes.sharded_dict import ShardedDict
from vigil.actors.indexes.tombstones import Tombstones
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.stores.base import BrokenRecord

Status = Literal["active", "expired", "all"]


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


class Registry:
    """All sessions by id. `live_count` is kept beside the sharded dict, whose own length costs a step a shard."""

    def __init__(self, clock: ScaledClock, tombstones: Tombstones) -> None:
        self.tombstones = tombstones
        self.broken: dict[str, BrokenRecord] = {}
        self.live_count = 0
        self._clock = clock
        self._actors: ShardedDict[SessionActor] = ShardedDict()
        self._live = SessionIndex()
        self._warned = 0

    # --- reading

    def find(self, session_id: str, now: int | None = None) -> SessionActor:
        """The actor of a live session. Raises SessionExpired, SessionBroken or SessionNotFound."""
        actor = self._actors.get(session_id)
        if actor is None:
            self._raise_why_not_live(session_id)
        if phase(actor.state, self._clock.now() if now is None else now) is Phase.DUE:
            raise SessionExpired(tombstone_of(actor.session))  # its timer was not served yet
        return actor

    def actor(self, session_id: str) -> SessionActor | None:
        """The actor of a session, also of one that is due; None when the session is not live."""
        return self._actors.get(session_id)

    def live(self, session_id: str) -> Session:
        """The record of a live session. Raises KeyError."""
        return self._actors[session_id].session

    def actors(self) -> list[SessionActor]:
        return list(self._actors.values())

    def agent_of(self, session_id: str) -> str | None:
        actor = self._actors.get(session_id)
        return None if actor is None else actor.session.agent_id

    def counts(self) -> Counts:
        self.tombstones.forget_due(self._clock.now())
        return Counts(self.live_count, len(self.tombstones), self._warned, len(self.broken))

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

    # --- changing

    def add(self, actor: SessionActor) -> None:
        session = actor.session
        self._actors[session.id] = actor
        self.live_count += 1
        self._live.add(session.created_at, session.id, session.agent_id, session.user_id)
        self._warned += session.warned

    def replace(self, before: Session, after: Session) -> None:
        """A live session has changed; its place in the lists has not, as nothing that decides it ever changes."""
        self._warned += after.warned - before.warned

    def remove(self, session: Session) -> None:
        """The session is not live any more."""
        del self._actors[session.id]
        self.live_count -= 1
        self._live.remove(session.created_at, session.id, session.agent_id, session.user_id)
        self._warned -= session.warned

    def add_broken(self, record: BrokenRecord) -> None:
        """A session that cannot be served: 500 on its id until it is deleted or the server starts anew."""
        self.broken[record.id] = record

    # --- private

    def _raise_why_not_live(self, session_id: str) -> NoReturn:
        tombstone = self.tombstones.get(session_id, self._clock.now())
        if tombstone is not None:
            raise SessionExpired(tombstone)
        if session_id in self.broken:
            raise SessionBroken(session_id, self.broken[session_id].why)
        raise SessionNotFound(session_id)

    def _record(self, session_id: str) -> Session | Tombstone:
        actor = self._actors.get(session_id)
        return actor.session if actor is not None else self.tombstones[session_id]
