"""How a session begins: its key, ids and time-outs, and the bound on how many there are.

Owns what is decided before a session exists. Refuses to know agents' catalogues and limits: whoever asks has passed
them.
"""

from collections.abc import Callable
from typing import NamedTuple

from vigil.actors.agents.base import AgentEntry
from vigil.actors.callbacks import Callback
from vigil.actors.core.commands import Transition
from vigil.actors.core.errors import Overloaded
from vigil.actors.core.expiry import merge
from vigil.actors.core.lifecycle import begin
from vigil.actors.core.records import Session, TimeoutConfig, TimeoutPatch
from vigil.actors.runtime.actor import save_answer
from vigil.actors.runtime.host import ActorHost
from vigil.actors.runtime.mailbox import IdempotencyKey
from vigil.actors.runtime.publisher import Publisher
from vigil.actors.runtime.registry import Registry
from vigil.actors.stores.base import InsertSession, Store, Write


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


class Creation:
    """Creates sessions. Their keys count up from `next_key`, the store's first free one."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        new_id: Callable[[], str],
        next_key: int,
        registry: Registry,
        publisher: Publisher,
        host: ActorHost,
    ) -> None:
        self._store = store
        self._rules = rules
        self._new_id = new_id
        self._next_key = next_key
        self._registry = registry
        self._publisher = publisher
        self._host = host
        self._under_way = 0  # creations whose commit is not done: they count towards the bound

    def begin(
        self,
        wanted: Wanted,
        now: int,
        on_result: Callback[Transition],
        idempotency: IdempotencyKey | None = None,
    ) -> None:
        """Commit a new session and start its actor. It begins at `now`, the instant at which it was admitted.

        `on_result` gets the transition once it is committed; or Overloaded at the bound, StoreUnavailable.
        """
        if self._registry.live_count + self._under_way >= self._rules.session_max:
            on_result(
                Overloaded(f"The server holds its {self._rules.session_max} sessions", retry_after_s=60)
            )
            return
        transition = begin(self._new_session(wanted, now))

        def committed(error: Exception | None) -> None:
            self._under_way -= 1
            if error is None:
                self._host.spawn(transition.session)
                self._publisher.created(transition)
            on_result(transition if error is None else error)

        self._under_way += 1
        self._store.submit(_writes(transition, idempotency), committed)

    def _new_session(self, wanted: Wanted, now: int) -> Session:
        key, self._next_key = self._next_key, self._next_key + 1
        agent, user_id, metadata, patch = wanted
        return Session(
            key=key,
            id=self._new_id(),
            agent_id=agent.id,
            user_id=user_id,
            channel_id=self._new_id(),
            metadata=metadata,
            created_at=now,
            last_activity=now,
            renewed_at=now,
            config=merge(merge(self._rules.defaults, agent.timeouts), patch),
        )


def _writes(transition: Transition, idempotency: IdempotencyKey | None) -> list[Write]:
    session = transition.session
    writes: list[Write] = [InsertSession(session)]
    if idempotency is not None:
        writes.append(save_answer(session.key, session.created_at, idempotency, transition))
    return writes
