"""What a script can be played against: one small protocol, and the server inside this process in virtual time."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import trio
from trio.testing import wait_all_tasks_blocked

from vigil.actors.agents import catalogue
from vigil.actors.agents.base import Agent, AgentEntry, Reply, Turn
from vigil.actors.agents.config import Outside
from vigil.actors.core.errors import AgentFailed
from vigil.actors.core.quotas import Limit
from vigil.actors.runtime.creation import Rules
from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language.script import Script
from vigil.scenarios.language.settings import Settings
from vigil.scenarios.language.verbs import AgentBehaviour
from vigil.scenarios.virtual.in_process import KEY, START_MS, InProcessServer, virtual_plan
from vigil.server.front.direct import Answer


class Unreachable(ScenarioError):
    """The target does not answer at all. The text says which, why, and what to do."""


class Listener(Protocol):
    """An events WebSocket, open when `answer.status` is 101. Iterate for its frames, each the text of an event."""

    @property
    def answer(self) -> Answer: ...

    @property
    def close_code(self) -> int | None:
        """Once it is over; None when the connection broke."""

    def __aiter__(self) -> AsyncIterator[str]: ...

    async def __anext__(self) -> str: ...


class Target(Protocol):
    """A server for one script. Instants are its session time in milliseconds since the epoch."""

    name: str  # "virtual", "serve" or the URL
    key: str  # an API key with all scopes
    tolerance_ms: int  # how far times may be off

    def now(self) -> int: ...

    def deadline(self, at_ms: int) -> float:
        """The instant of Trio's clock at which it is `at_ms`."""

    async def settle(self) -> None:
        """Where time is virtual: until all that this instant brings about has happened."""

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], content: bytes
    ) -> Answer:
        """One request. Raises Disconnected when no answer comes because the server is or goes down."""

    def listen(
        self, target: str, headers: Iterable[tuple[str, str]]
    ) -> AbstractAsyncContextManager[Listener]:
        """A WebSocket handshake. Raises Disconnected likewise."""

    async def restart(self, *, crash: bool, down_ms: int, settings: Settings) -> None:
        """Go down, and come back with the same data and these settings."""

    async def set_agents(self, behaviours: Mapping[str, AgentBehaviour]) -> None:
        """How these agents behave from now on."""


class Opener(Protocol):
    """Where the targets of one kind come from."""

    async def check(self) -> None:
        """Whether anything can be played there, before anything is. Raises Unreachable, ScenarioError."""

    def lacks(self, script: Script) -> str:
        """Why that script cannot be played there; "" when it can."""

    def open(self, script: Script) -> AbstractAsyncContextManager[Target]:
        """A target with the script's settings, until the block is left. Raises Unreachable, ScenarioError."""


class VirtualTarget:
    """The real server application in this process. To be used inside `determinism.run`."""

    name = "virtual"
    key = KEY
    tolerance_ms = 0

    def __init__(self, server: InProcessServer, behaviours: dict[str, AgentBehaviour]) -> None:
        self._server = server
        self._behaviours = behaviours
        self._waiting: set[trio.CancelScope] = set()  # listeners, for their next event

    def now(self) -> int:
        return self._server.now

    def deadline(self, at_ms: int) -> float:
        return self._server.plan.clock.deadline(at_ms)

    async def settle(self) -> None:
        await wait_all_tasks_blocked()

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], content: bytes
    ) -> Answer:
        return await self._server.request(method, target, headers, content)

    @asynccontextmanager
    async def listen(self, target: str, headers: Iterable[tuple[str, str]]) -> AsyncIterator[Listener]:
        async with self._server.listen(target, headers) as listener:
            yield _UntilCrash(listener, self._waiting)

    async def restart(self, *, crash: bool, down_ms: int, settings: Settings) -> None:
        for scope in self._waiting if crash else ():
            scope.cancel()
        changes = _plan_changes(settings, self._behaviours)
        await self._server.restart(crash=crash, down_s=down_ms / 1000, **changes)

    async def set_agents(self, behaviours: Mapping[str, AgentBehaviour]) -> None:
        self._behaviours.update(behaviours)


class _UntilCrash:
    """A listener whose connection breaks when its server crashes: then it ends without a close code."""

    def __init__(self, listener: Listener, waiting: set[trio.CancelScope]) -> None:
        self._listener = listener
        self._waiting = waiting

    @property
    def answer(self) -> Answer:
        return self._listener.answer

    @property
    def close_code(self) -> int | None:
        return self._listener.close_code

    def __aiter__(self) -> "_UntilCrash":
        return self

    async def __anext__(self) -> str:
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                return await anext(self._listener)
            finally:
                self._waiting.discard(scope)
        raise StopAsyncIteration


class Virtual:
    """Opens a world of its own for each script, the same one every time."""

    async def check(self) -> None:
        """It is always there."""

    def lacks(self, script: Script) -> str:  # noqa: ARG002  it can play everything
        return ""

    @asynccontextmanager
    async def open(self, script: Script) -> AsyncIterator[VirtualTarget]:
        behaviours: dict[str, AgentBehaviour] = {}
        plan = virtual_plan(**_plan_changes(script.settings or Settings(), behaviours))
        async with trio.open_nursery() as nursery:
            server = InProcessServer(plan, nursery)
            await server.start()
            yield VirtualTarget(server, behaviours)
            nursery.cancel_scope.cancel()


def agents_of(settings: Settings) -> Mapping[str, AgentEntry]:
    """The catalogue that a script asks for."""
    if settings.agents is None:
        return catalogue.demo()
    outside = Outside({}, lambda: START_MS, seed=0)
    configs = [catalogue.KINDS[entry["kind"]].model_validate(entry, context={}) for entry in settings.agents]
    return {config.id: config.entry(outside) for config in configs}


def _plan_changes(settings: Settings, behaviours: Mapping[str, AgentBehaviour]) -> dict[str, Any]:
    given = {
        "session_limit": settings.limits.session,
        "user_limit": settings.limits.user,
        "agent_limit": settings.limits.agent,
    }
    return {
        "rules": _rules(settings),
        "content_policy": settings.content_policy != "off",
        "agents": {
            entry.id: entry._replace(agent=entry.agent and _Spoiled(entry.id, entry.agent, behaviours))
            for entry in agents_of(settings).values()
        },
        **{name: Limit.parse(text) for name, text in given.items() if text is not None},
    }


def _rules(settings: Settings) -> Rules:
    usual = Rules()
    return Rules(
        usual.defaults._replace(**settings.defaults.model_dump(exclude_none=True)),
        settings.session_max or usual.session_max,
        settings.tombstone_minutes or usual.tombstone_minutes,
        settings.tombstone_max or usual.tombstone_max,
    )


class _Spoiled:
    """An agent that does what the script says, and else what it always does."""

    def __init__(self, agent_id: str, agent: Agent, behaviours: Mapping[str, AgentBehaviour]) -> None:
        self._id = agent_id
        self._agent = agent
        self._behaviours = behaviours

    async def reply(self, turn: Turn) -> Reply:
        behaviour = self._behaviours.get(self._id)
        if behaviour is not None:
            await _behave(behaviour)
        return await self._agent.reply(turn)


async def _behave(behaviour: AgentBehaviour) -> None:
    if behaviour.slow is not None:
        await trio.sleep(behaviour.slow / 1000)
    elif behaviour.is_ == "hanging":
        await trio.sleep_forever()
    elif behaviour.is_ == "failing":
        raise AgentFailed("The agent fails, as the script says")
