"""All sessions of one service, put together from its parts.

Owns which part gets what, and the catalogue of agents in force. Refuses to do their work:

    registry     which sessions there are: find, list, count
    publisher    what follows a commit: events, counters, turns, the recording
    host         the actors' tasks: start, restart, quarantine, end
    creation     how a session begins
    keys         idempotency keys
    limits       rate limits

The tasks around it are in `service`.
"""

from collections.abc import Callable, Mapping, Sequence

import trio

from vigil.actors.agents.base import AgentEntry
from vigil.actors.callbacks import await_callback
from vigil.actors.core.commands import Transition
from vigil.actors.core.errors import AgentNotFound
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutPatch
from vigil.actors.hub.hub import Hub
from vigil.actors.indexes.tombstones import Tombstones
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.creation import Creation, Rules, Wanted
from vigil.actors.runtime.host import ActorHost
from vigil.actors.runtime.idempotency import Keys
from vigil.actors.runtime.mailbox import IdempotencyKey
from vigil.actors.runtime.publisher import Publisher, only_event
from vigil.actors.runtime.registry import Registry
from vigil.actors.stores.base import Store
from vigil.actors.turns.turns import Turns


class Directory:
    """All sessions of one service. Its turns are tasks of `nursery`, its actors are spread over `actor_nurseries`.

    What a request calls is bound to the part that does it when the directory is made, not forwarded by a method: that
    saves a call on every request.
    """

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
        actor_nurseries: Sequence[trio.Nursery],
    ) -> None:
        self._agents = agents
        self.store, self.clock, self.limits, self.new_id = store, clock, limits, new_id
        self.keys = Keys(store, clock)
        self.registry = registry = Registry(clock, Tombstones(rules.tombstone_minutes, rules.tombstone_max))
        self.hub = Hub(lambda session_id: only_event(registry.live(session_id), next_key))
        self.turns = Turns(agents, store, clock.now, self.hub, new_id, nursery)
        self.publisher = Publisher(self.hub, self.turns, next_key)
        self.host = ActorHost(store, clock, limits, registry, self.publisher, actor_nurseries)
        self.creation = Creation(store, rules, new_id, next_key, registry, self.publisher, self.host)

        self.find, self.actors, self.agent_of = registry.find, registry.actors, registry.agent_of
        self.counts, self.page = registry.counts, registry.page
        self.begin, self.end = self.creation.begin, self.host.end

    async def create(
        self,
        agent_id: str,
        user_id: str,
        metadata: str,
        patch: TimeoutPatch,
        idempotency: IdempotencyKey | None = None,
    ) -> Transition:
        """`begin` now, waited for."""
        wanted, now = Wanted(self.agent(agent_id), user_id, metadata, patch), self.clock.now()
        await trio.lowlevel.checkpoint()  # however quick the store is, others have their turn
        return await await_callback(lambda on_result: self.begin(wanted, now, on_result, idempotency))

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


def overrides(agents: Mapping[str, AgentEntry]) -> dict[str, tuple[Limit | None, Limit | None]]:
    """The limits that agents have of their own, for `Limits`."""
    return {
        entry.id: (entry.session_limit, entry.agent_limit)
        for entry in agents.values()
        if entry.session_limit or entry.agent_limit
    }
